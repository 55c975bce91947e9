"""Neural Neighbor Style Transfer in PyTorch, written from a description of its source.

Nothing here is shared with the package: pictures at each scale and weights come in as arrays, and the
random grids of the final pass as numbers.
"""

import numpy as np
import torch
from torch.nn import functional

from tests.torch_multiscale import as_picture, collapsed, features, pyramid, resized

TAPS = ("r11", "r12", "r21", "r22", "r31", "r32", "r33", "r41", "r42", "r43")


# --- Hypercolumns and their matches ---------------------------------------------------------------


def hypercolumns(weights, picture):
    """Return [n, 2688]: a vector for every 4 x 4 px."""
    size = (picture.shape[2] // 4, picture.shape[3] // 4)
    found = [
        functional.interpolate(tap / tap.shape[1], size, mode="bilinear", align_corners=True)
        for tap in features(weights, picture, TAPS)
    ]
    return torch.cat(found, 1)[0].flatten(1).T


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-4)


def turned(style):
    return [torch.rot90(style, turn, (2, 3)) for turn in range(4)]


def matched(weights, searched, style):
    """Return for each hypercolumn of a picture the nearest one of the style in four turns."""
    theirs = torch.cat([hypercolumns(weights, one) for one in turned(style)])
    ours = hypercolumns(weights, searched)
    cosine = unit(ours - ours.mean(0)) @ unit(theirs - theirs.mean(0)).T
    return theirs[cosine.argmax(1)]


def distance_to_matches(weights, picture, matches):
    return (1 - (unit(hypercolumns(weights, picture)) * unit(matches)).sum(1)).mean()


# --- The final pass -------------------------------------------------------------------------------


def on_grid(tap, first, stride):
    """Return the vectors of a tap [1, c, h, w] at every stride-th line, as many for each beginning."""
    rows, columns = (
        (first[axis] + stride * np.arange(max(1, side // stride))).clip(max=side - 1)
        for axis, side in enumerate(tap.shape[2:])
    )
    return tap[0][:, rows][:, :, columns].flatten(1).T


def distance_to_nearest(taps, style_taps, firsts):
    """Return the sum over taps of the mean distance to the nearest; `style_taps` has every turn."""
    total = 0
    for index, tap in enumerate(taps):
        stride = max(1, max(tap.shape[2:]) // 64)
        ours = on_grid(tap, firsts[index], stride)
        theirs = torch.cat([on_grid(turn[index], firsts[index], stride) for turn in style_taps])
        cosine = unit(ours - ours.mean(0)) @ unit(theirs - theirs.mean(0)).T
        total = total + (1 - cosine).min(1).values.mean()
    return total


# --- A run ----------------------------------------------------------------------------------------


def optimised(start, levels, updates, loss_of):
    """Return the picture after Adam's updates of its pyramid, and the loss before each of them.

    The published code returns the picture before the last update, so that this update is lost.
    """
    variables = [level.clone().requires_grad_(True) for level in pyramid(start, levels)]
    optimizer, history = torch.optim.Adam(variables, lr=2e-3), []
    for update in range(updates):
        optimizer.zero_grad()
        loss = loss_of(collapsed(variables), update)
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    return collapsed([level.detach() for level in variables]), history


def run(weights, scales, levels, alpha, firsts):
    """Return the losses of all canvases, scale by scale, then in the final pass.

    Args:
      weights: pairs (kernel, bias) of VGG-19.
      scales: (content, style, updates) of each scale, coarse to fine, arrays [h, w, 3]; the last one
        is the final pass.
      levels: number of halvings of each scale's pyramid.
      alpha: share of the content in the picture whose matches are sought.
      firsts: function (update, tap index, stride) -> the first row and column of a grid.
    """
    dtype, history, canvas = weights[0][0].dtype, [], None
    for index, (content, style, updates) in enumerate(scales):
        content, style = as_picture(content, dtype), as_picture(style, dtype)
        canvas = content if canvas is None else resized(canvas, content.shape[2:])
        if index < len(scales) - 1:
            band = pyramid(content, 1)[0]
            searched = content if index == 0 else alpha * content + (1 - alpha) * (canvas + band)
            with torch.no_grad():
                matches = matched(weights, searched, style)

            def loss_of(picture, update, matches=matches):
                return distance_to_matches(weights, picture, matches)
        else:
            with torch.no_grad():
                style_taps = [features(weights, one, TAPS) for one in turned(style)]

            def loss_of(picture, update, style_taps=style_taps):
                taps = features(weights, picture, TAPS)
                strides = [max(1, max(tap.shape[2:]) // 64) for tap in taps]
                first = [firsts(update, i, stride) for i, stride in enumerate(strides)]
                return distance_to_nearest(taps, style_taps, first)

        # The loss of the last canvas is known after one evaluation more.
        evaluations = updates + (index == len(scales) - 1)
        canvas, losses = optimised(canvas, levels[index], evaluations, loss_of)
        history += losses
    return history
