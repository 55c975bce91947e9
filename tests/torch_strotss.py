"""STROTSS in PyTorch, written from a description of its source.

Nothing here is shared with the package: pictures at each scale and weights come in as arrays, and the
random places as functions.
"""

import torch

from tests.torch_multiscale import as_picture, collapsed, features, pyramid, resized

TAPS = ("r11", "r12", "r21", "r22", "r31", "r32", "r33", "r43", "r53")
BASIS = (
    (0.57735, 0.57735, 0.57735),
    (-0.57735, 0.788675, -0.211325),
    (-0.57735, -0.211325, 0.788675),
)


def picture_and_taps(weights, picture, units):
    """Return the picture [1, 3, h, w] in [0, 1], then its nine taps, each divided by its unit."""
    taps = features(weights, picture, TAPS)
    return [picture, *(tap / unit for tap, unit in zip(taps, units, strict=True))]


# --- Vectors at places ----------------------------------------------------------------------------


def between_positions(maps, places):
    """Return [n, 2179]: features at (row, column), interpolated linearly between positions."""
    row, column = (torch.tensor(places[:, axis], dtype=maps[0].dtype) for axis in (0, 1))
    found = []
    for index, one in enumerate(maps):
        if index and one.shape[2] < maps[index - 1].shape[2]:
            row, column = row / 2, column / 2
        height, width = one.shape[2:]
        top, left = row.floor(), column.floor()
        total = 0
        for down in (0, 1):
            for right in (0, 1):
                share = (row - top if down else 1 - (row - top)) * (
                    column - left if right else 1 - (column - left)
                )
                r = (top + down).clamp(0, height - 1).long()
                c = (left + right).clamp(0, width - 1).long()
                total = total + share * one[0, :, r, c]
        found.append(total)
    return torch.cat(found).T


def at_positions(maps, places):
    """Return [n, 2179]: features at (row, column), which are rounded down at each pooling."""
    row, column = (torch.tensor(places[:, axis]).long() for axis in (0, 1))
    found = []
    for index, one in enumerate(maps):
        if index and one.shape[2] < maps[index - 1].shape[2]:
            row, column = row // 2, column // 2
        row, column = row.clamp(max=one.shape[2] - 1), column.clamp(max=one.shape[3] - 1)
        found.append(one[0, :, row, column])
    return torch.cat(found).T


# --- Losses ---------------------------------------------------------------------------------------


def cosine_distances(x, y):
    return 1 - (x / x.norm(dim=1, keepdim=True)) @ (y / y.norm(dim=1, keepdim=True)).T


def relaxed(cost):
    return torch.max(cost.min(1).values.mean(), cost.min(0).values.mean())


def moments(x):
    return x.mean(0), torch.cov(x.T, correction=0)


def moment_distance(x, y):
    return sum((a - b).abs().mean() for a, b in zip(x, y, strict=True))


def palette(x, y):
    basis = torch.tensor(BASIS, dtype=x.dtype)
    x, y = x[:, :3] @ basis.T, y[:, :3] @ basis.T
    squared = ((x[:, None] - y[None]) ** 2).sum(2).clamp(min=1e-5)
    return relaxed(cosine_distances(x, y) + (squared / 3).sqrt())


def self_similarity(x, y):
    a, b = (cosine_distances(rows, rows) for rows in (x, y))
    return (a / a.sum(0) - b / b.sum(0)).abs().mean() * len(x)


# --- A run ----------------------------------------------------------------------------------------


def run(weights, scales, alpha, rates, places, pixels, units):
    """Return (total, content, transport, moments, palette) of all canvases, unweighted but the total.

    Args:
      weights: pairs (kernel, bias) of VGG-19.
      scales: (content, style, updates) of each scale, coarse to fine, arrays [h, w, 3].
      alpha: weight of the content at the coarsest scale.
      rates: learning rates, at the last scale and before; the source's are 1e-3 and 2e-3.
      places: function (update, (height, width)) -> the places of an update, [n, 2].
      pixels: function (draw, (height, width)) -> the places of a draw from the style, [n, 2].
      units: the number by which the features of each of `TAPS` are divided.
    """
    dtype, history, canvas = weights[0][0].dtype, [], None
    for index, (content, style, updates) in enumerate(scales):
        last = index == len(scales) - 1
        content, style = as_picture(content, dtype), as_picture(style, dtype)
        shape = tuple(content.shape[2:])
        if canvas is None:
            canvas = style.mean((2, 3), keepdim=True) + pyramid(content, 1)[0]
        else:
            canvas = resized(canvas, shape)
            if not last:
                canvas = canvas + pyramid(content, 1)[0]
        with torch.no_grad():
            of_content, maps = (
                picture_and_taps(weights, picture, units) for picture in (content, style)
            )
            of_style = torch.cat(
                [at_positions(maps, pixels(draw, tuple(style.shape[2:]))) for draw in range(5)]
            )
            style_moments = moments(of_style)
        levels = [level.clone().requires_grad_(True) for level in pyramid(canvas, 5)]
        optimizer = torch.optim.RMSprop(levels, lr=rates[0] if last else rates[1])
        for update in range(updates + last):  # the last canvas takes one evaluation more
            optimizer.zero_grad()
            here = places(update, shape)
            x = between_positions(picture_and_taps(weights, collapsed(levels), units), here)
            parts = (
                self_similarity(x, between_positions(of_content, here)),
                relaxed(cosine_distances(x, of_style)),
                moment_distance(moments(x), style_moments),
                palette(x, of_style),
            )
            content_loss, transport, spread, colours = parts
            style_loss = transport + spread + colours / max(alpha, 1)
            total = (alpha * content_loss + style_loss) / (alpha + 2)
            total.backward()
            optimizer.step()
            history.append([float(one.detach()) for one in (total, *parts)])
        canvas = collapsed([level.detach() for level in levels])
        alpha = alpha / 2
    return history
