"""Runs a page of docs/browser in Chromium, without network, and returns what it painted."""

import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "browser" / "index.html"
PACKAGE = "node_modules/onnxruntime-web"  # beside the page

# Puts pictures into the page's inputs as a visitor does, and posts what the page paints and says.
HARNESS = """<!doctype html><iframe src="index.html" width="600" height="600"></iframe>
<script type="module">
const frame = document.querySelector("iframe");
await new Promise(done => frame.onload = done);
const page = frame.contentDocument, state = () => page.body.dataset.state;
const until = async wanted => {
  while (!wanted.includes(state())) await new Promise(done => setTimeout(done, 50));
};
await until(["ready", "failed"]);
const ready = page.getElementById("said").textContent;
const styles = [...page.getElementById("name").options].map(option => option.text);
page.getElementById("name").value = "STYLE";
for (const id of ["style", "photo"]) {
  const files = new DataTransfer(), response = await fetch(id + ".png");
  if (!response.ok) continue;
  files.items.add(new File([await response.blob()], id + ".png", {type: "image/png"}));
  page.getElementById(id).files = files.files;
  page.getElementById(id).dispatchEvent(new Event("change"));
}
await until(["done", "failed"]);
const canvas = page.getElementById("result");
const image = state() === "done"
  ? [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data] : [];
const found = {ready, styles, said: page.getElementById("said").textContent, image,
               size: [canvas.height, canvas.width]};
await fetch("found", {method: "POST", body: JSON.stringify(found)});
</script>"""


def chromium():
    """Return Chromium's path, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def onnxruntime_web():
    """Return the folder of the npm package onnxruntime-web, or None."""
    named = os.environ.get("ONNXRUNTIME_WEB")
    folder = Path(named) if named else PAGE.parent / PACKAGE
    return folder.resolve() if (folder / "dist").is_dir() else None


class Server(ThreadingHTTPServer):
    """Serves a folder to this machine only, and keeps what is posted and which paths were asked for."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.found, self.posted, self.asked = None, threading.Event(), []


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def do_POST(self):
        self.server.found = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.server.posted.set()

    def log_message(self, *words):
        del words


def painted(folder, style, *, timeout):
    """Return what the page painted and said, as the bytes of JSON, and the paths that it asked for.

    The folder has model.onnx, photo.png and, if the network takes one, style.png; `style` is the number
    of one of its styles.
    """
    shutil.copy(PAGE, folder / "index.html")
    (folder / PACKAGE).parent.mkdir()
    (folder / PACKAGE).symlink_to(onnxruntime_web())
    (folder / "harness.html").write_text(HARNESS.replace("STYLE", str(style)))
    with Server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
        ]
        offline = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
        address = f"http://127.0.0.1:{server.server_port}/harness.html"
        with subprocess.Popen(
            [chromium(), *words, offline, address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as browser:
            try:
                assert server.posted.wait(timeout), f"nothing was painted; asked for {server.asked}"
            finally:
                browser.terminate()
        server.shutdown()
        return server.found, server.asked
