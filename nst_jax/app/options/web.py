"""The options of the command `web`, which serves a page on which pictures are painted."""

import click

from nst_jax.app.options.base import all_of, option
from nst_jax.app.options.shared import cache, xla_logs

web = all_of(
    option(
        "--host",
        metavar="ADDRESS",
        help="address at which the page is served, such as 0.0.0.0 for all addresses of this machine; "
        "the printed address then has a token, without which nothing is served (default: this machine "
        "only)",
    ),
    option(
        "--port",
        type=click.IntRange(0, 65535),
        metavar="N",
        help="port of the address; 0 is any free one (default: 8317, or a free one if it is in use)",
    ),
    option(
        "--browser/--no-browser",
        default=True,
        help="open the page in the browser (default: yes)",
    ),
    cache,
    xla_logs,
)
