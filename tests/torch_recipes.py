"""Five published style transfers, reimplemented in PyTorch as their sources write them.

Nothing here is shared with the package: pictures come in as 8-bit arrays and weights as arrays, and
sizes, filters, pixels, losses and update rules are the sources' own. The sources are notebooks that
need a folder of pictures, a network download or TensorFlow; these functions need none of them.

A recipe is two functions. The first converts two 8-bit pictures [h, w, 3] to the float32 RGB pixels in
[0, 1] that the source has before it converts them for the network. The second takes such pixels and
runs in the dtype of the weights. It returns (total, content, style), with their weights, of the canvas
after 0, 1, ... updates.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

Weights = list[tuple[torch.Tensor, torch.Tensor]]  # (kernel [o, i, 3, 3], bias [o]), conv1_1 first
Pixels = np.ndarray  # [h, w, 3]
History = list[tuple[float, float, float]]


class Source(NamedTuple):
    """One published style transfer."""

    pictures: Callable[[Pixels, Pixels, int], tuple[Pixels, Pixels]]  # content, style, size
    run: Callable[..., History]  # weights, content, style, start, steps
    size: int  # the published one


def as_weights(layers, dtype):
    """Return weights from pairs (kernel [3, 3, i, o], bias [o]) of arrays."""
    return [
        (
            torch.tensor(np.asarray(kernel), dtype=dtype).permute(3, 2, 0, 1).contiguous(),
            torch.tensor(np.asarray(bias), dtype=dtype),
        )
        for kernel, bias in layers
    ]


# --- Pictures -------------------------------------------------------------------------------------


def resized(picture, width, height, resampling):
    """Return an 8-bit array as Pillow resizes it."""
    return np.asarray(Image.fromarray(picture).resize((width, height), resampling))


def resized_by_torchvision(picture, size):
    """`transforms.Resize(int)`, once `Scale`: the smaller edge becomes `size`; bilinear."""
    height, width, _ = picture.shape
    if min(width, height) == size:
        return picture
    if width < height:
        return resized(picture, size, int(size * height / width), Image.Resampling.BILINEAR)
    return resized(picture, int(size * width / height), size, Image.Resampling.BILINEAR)


def resized_by_old_torchvision(picture, size):
    """`transforms.Scale(int)` on Pillow before 2.7: `bilinear_filter32RGB` after `affine_transform`."""
    ysize, xsize, _ = picture.shape
    if min(xsize, ysize) == size:
        return picture
    if xsize < ysize:
        width, height = size, int(size * ysize / xsize)
    else:
        width, height = int(size * xsize / ysize), size
    out = np.empty((height, width, 3), np.uint8)
    a1, a5 = xsize / width, ysize / height
    xin = np.asarray([a1 * x for x in range(width)]) - 0.5
    x = np.floor(xin).astype(int)
    dx = (xin - x)[:, None]
    x0, x1 = np.clip(x, 0, xsize - 1), np.clip(x + 1, 0, xsize - 1)
    pixels = picture.astype(float)
    for row in range(height):
        yin = a5 * row - 0.5
        y = int(np.floor(yin))
        dy = yin - y
        line = pixels[max(y, 0)]
        v1 = line[x0] + (line[x1] - line[x0]) * dx
        v2 = v1
        if y + 1 < ysize:
            line = pixels[y + 1]
            v2 = line[x0] + (line[x1] - line[x0]) * dx
        out[row] = v1 + (v2 - v1) * dy  # truncates, as C does
    return out


def to_tensor(picture):
    """`transforms.ToTensor`, but with the channels last."""
    return torch.tensor(picture).to(torch.float32).div(255).numpy()


def convert_image_dtype(picture):
    """`tf.image.convert_image_dtype(..., tf.float32)`: multiplies by 1 / 255 instead of dividing."""
    return picture.astype(np.float32) * np.float32(1 / 255)


def batch(pixels, weights):
    """Return [h, w, 3] as [1, 3, h, w] in the dtype of the weights."""
    return torch.tensor(pixels, dtype=weights[0][0].dtype).permute(2, 0, 1)[None].contiguous()


# --- VGG-19 ---------------------------------------------------------------------------------------


def activations(weights, x):
    """Return the output of each ReLU, as `r11` to `r54`; 2 x 2 max pooling drops odd edges."""
    found, index = {}, 0
    for block, convolutions in enumerate((2, 2, 4, 4, 4), 1):
        for convolution in range(1, convolutions + 1):
            x = functional.relu(functional.conv2d(x, *weights[index], padding=1))
            found[f"r{block}{convolution}"] = x
            index += 1
        x = functional.max_pool2d(x, 2, 2) if block < 5 else x
    return found


def torchvision_modules(weights):
    """Return torchvision's `vgg19().features` with ReLUs in place, without the last pooling."""
    modules = []
    for index, (kernel, bias) in enumerate(weights):
        convolution = nn.utils.skip_init(nn.Conv2d, kernel.shape[1], kernel.shape[0], 3, padding=1)
        convolution.weight = nn.Parameter(kernel, requires_grad=False)
        convolution.bias = nn.Parameter(bias, requires_grad=False)
        modules += [convolution, nn.ReLU(inplace=True)]
        if index in (1, 3, 7, 11):
            modules.append(nn.MaxPool2d(2, 2))
    return modules


# --- Adam as in Keras -----------------------------------------------------------------------------


def keras_adam(learning_rate, beta_1, beta_2, epsilon, iterations=0):
    """Return a function (variable, gradient) that updates the variable as `keras.optimizers.Adam`.

    The numbers have the variable's dtype, as in Keras. `iterations` is the number of updates that the
    optimiser has already made, of other variables.
    """
    moments = {}

    def apply(variable, gradient):
        nonlocal iterations
        iterations += 1
        m, v = moments.setdefault("mv", (torch.zeros_like(gradient), torch.zeros_like(gradient)))
        rate, b1, b2, eps = (
            torch.tensor(number, dtype=gradient.dtype)
            for number in (learning_rate, beta_1, beta_2, epsilon)
        )
        alpha = rate * torch.sqrt(1 - b2**iterations) / (1 - b1**iterations)
        m.add_((gradient - m) * (1 - b1))
        v.add_((gradient.square() - v) * (1 - b2))
        with torch.no_grad():
            variable.sub_(m * alpha / (v.sqrt() + eps))

    return apply


def trained(image, losses, apply_gradients, steps):
    """Optimise an image [1, 3, h, w] as both Keras notebooks do: an update, then a clip to [0, 1]."""
    history = []
    for _ in range(steps + 1):
        total, content, style = losses(image)
        (gradient,) = torch.autograd.grad(total, image)
        history.append((total.item(), content.item(), style.item()))
        apply_gradients(image, gradient)
        with torch.no_grad():
            image.clamp_(0.0, 1.0)
    return history


# --- udacity --------------------------------------------------------------------------------------
# udacity/deep-learning-v2-pytorch @ c9404fc8, style-transfer/Style_Transfer_Solution.ipynb


def udacity_pictures(content, style, size=400):
    """`load_image(..., max_size=size)`, then `load_image(..., shape=content.shape[-2:])`."""
    longest = max(content.shape[:2])
    content = resized_by_torchvision(content, size if longest > size else longest)
    height, width, _ = content.shape
    style = resized(style, width, height, Image.Resampling.BILINEAR)
    return to_tensor(content), to_tensor(style)


def udacity(weights, content, style, start, steps):
    """Adam on the normalised tensor; raw Gram matrices; nothing is clipped."""
    modules = torchvision_modules(weights)
    names = {"0": 1.0, "5": 0.75, "10": 0.2, "19": 0.2, "28": 0.2}  # conv1_1 to conv5_1
    mean = torch.tensor((0.485, 0.456, 0.406), dtype=weights[0][0].dtype)[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225), dtype=weights[0][0].dtype)[:, None, None]

    def get_features(x):
        # The output of a convolution is stored, then overwritten by the ReLU, which works in place.
        features = {}
        for name, layer in enumerate(modules):
            x = layer(x)
            if str(name) in {*names, "21"}:
                features[str(name)] = x
        return features

    def gram_matrix(tensor):
        b, d, h, w = tensor.size()
        tensor = tensor.view(b * d, h * w)
        return torch.mm(tensor, tensor.t())

    content, style, start = (
        (batch(pixels, weights) - mean) / std for pixels in (content, style, start)
    )
    content_features, style_features = get_features(content), get_features(style)
    style_grams = {name: gram_matrix(style_features[name]) for name in names}
    target = start.requires_grad_(True)
    optimizer = torch.optim.Adam([target], lr=0.003)
    history = []
    for _ in range(steps + 1):
        target_features = get_features(target)
        content_loss = torch.mean((target_features["21"] - content_features["21"]) ** 2)
        style_loss = 0
        for name, weight in names.items():
            _, d, h, w = target_features[name].shape
            target_gram = gram_matrix(target_features[name])
            layer_style_loss = weight * torch.mean((target_gram - style_grams[name]) ** 2)
            style_loss += layer_style_loss / (d * h * w)
        total_loss = 1 * content_loss + 1e6 * style_loss
        history.append((total_loss.item(), content_loss.item(), 1e6 * style_loss.item()))
        optimizer.zero_grad()
        total_loss.backward()
        optimizer.step()
    return history


# --- gatys-pytorch --------------------------------------------------------------------------------
# leongatys/PytorchNeuralStyleTransfer @ be6c8e2b, NeuralStyleTransfer.ipynb


def gatys_pytorch_pictures(content, style, size=512):
    """`Scale(size)`, for each picture separately."""
    return tuple(
        to_tensor(resized_by_old_torchvision(picture, size)) for picture in (content, style)
    )


def gatys_pytorch(
    weights, content, style, start, steps, *, mean=(0.40760392, 0.45795686, 0.48501961)
):
    """L-BFGS without a line search, in outer steps of twenty evaluations, on BGR pixels.

    `mean` is the notebook's: Caffe's mean / 255, rounded.
    """
    style_layers, content_layers = ["r11", "r21", "r31", "r41", "r51"], ["r42"]
    style_weights = [1e3 / n**2 for n in [64, 128, 256, 512, 512]]
    dtype = weights[0][0].dtype
    mean = torch.tensor(mean, dtype=dtype)[:, None, None]

    def prep(pixels):
        return (batch(pixels, weights)[:, [2, 1, 0]] - mean).mul_(255)

    def gram_matrix(x):
        b, c, h, w = x.size()
        x = x.view(b, c, h * w)
        return torch.bmm(x, x.transpose(1, 2)).div_(h * w)

    mse = nn.MSELoss()
    of_style, of_content = (activations(weights, prep(pixels)) for pixels in (style, content))
    style_targets = [gram_matrix(of_style[layer]) for layer in style_layers]
    content_targets = [of_content[layer] for layer in content_layers]
    opt_img = prep(start).requires_grad_(True)
    # The notebook uses the defaults of its time, when tolerance_grad was 1e-5.
    optimizer = torch.optim.LBFGS([opt_img], tolerance_grad=1e-5)
    history = []

    def closure():
        optimizer.zero_grad()
        out = activations(weights, opt_img)
        style_losses = [
            weight * mse(gram_matrix(out[layer]), target)
            for layer, weight, target in zip(
                style_layers, style_weights, style_targets, strict=True
            )
        ]
        content_losses = [
            1e0 * mse(out[layer], target)
            for layer, target in zip(content_layers, content_targets, strict=True)
        ]
        loss = sum(style_losses + content_losses)
        loss.backward()
        history.append((loss.item(), sum(content_losses).item(), sum(style_losses).item()))
        return loss

    while len(history) <= steps:
        optimizer.step(closure)
    return history[: steps + 1]


# --- tf -------------------------------------------------------------------------------------------
# tensorflow/docs @ 7c365021, site/en/tutorials/generative/style_transfer.ipynb, the first run


def tf_pictures(content, style, size=512):
    """`load_img`: the longer side becomes `size`, bilinear and not antialiased, in float32."""

    def load_img(picture):
        picture = convert_image_dtype(picture)
        shape = np.asarray(picture.shape[:-1], np.float32)
        scale = np.float32(size) / shape.max()
        new_shape = (shape * scale).astype(np.int32)
        planes = functional.interpolate(
            torch.tensor(picture).permute(2, 0, 1)[None],
            size=tuple(int(side) for side in new_shape),
            mode="bilinear",
            align_corners=False,
            antialias=False,
        )
        return planes[0].permute(1, 2, 0).contiguous().numpy()

    return load_img(content), load_img(style)


def tf(weights, content, style, start, steps):
    """Keras' Adam with an epsilon of 0.1 on pixels in [0, 1]."""
    dtype = weights[0][0].dtype
    style_layers, content_layers = ["r11", "r21", "r31", "r41", "r51"], ["r52"]
    mean = torch.tensor((103.939, 116.779, 123.68), dtype=dtype)[:, None, None]

    def extractor(inputs):
        preprocessed = (inputs * 255.0).flip(1) - mean  # RGB to BGR
        outputs = activations(weights, preprocessed)
        return (
            [gram_matrix(outputs[layer]) for layer in style_layers],
            [outputs[layer] for layer in content_layers],
        )

    def gram_matrix(x):
        result = torch.einsum("bcij,bdij->bcd", x, x)
        return result / (x.shape[2] * x.shape[3])

    style_targets, _ = extractor(batch(style, weights))
    _, content_targets = extractor(batch(content, weights))

    def style_content_loss(image):
        style_outputs, content_outputs = extractor(image)
        style_loss = sum(
            torch.mean((output - target) ** 2)
            for output, target in zip(style_outputs, style_targets, strict=True)
        )
        style_loss = style_loss * (1e-2 / 5)
        content_loss = sum(
            torch.mean((output - target) ** 2)
            for output, target in zip(content_outputs, content_targets, strict=True)
        )
        content_loss = content_loss * (1e4 / 1)
        return style_loss + content_loss, content_loss, style_loss

    opt = keras_adam(learning_rate=0.02, beta_1=0.99, beta_2=0.999, epsilon=1e-1)
    return trained(batch(start, weights).requires_grad_(True), style_content_loss, opt, steps)


# --- coursera-tf2 ---------------------------------------------------------------------------------
# deeplearning.ai, Convolutional Neural Networks, week 4, Art Generation v1.2


def coursera_tf2_pictures(content, style, size=400):
    """Pillow's `resize((size, size))`, whose default is bicubic; the aspect is not kept."""
    return tuple(
        convert_image_dtype(resized(picture, size, size, Image.Resampling.BICUBIC))
        for picture in (content, style)
    )


def coursera_tf2_start(content, seed):
    """The content plus uniform noise in [-0.25, 0.25), clipped; not TensorFlow's random numbers."""
    noise = np.random.RandomState(seed).uniform(-0.25, 0.25, content.shape)
    return np.clip(content + noise.astype(np.float32), 0.0, 1.0)


def coursera_tf2(weights, content, style, start, steps):
    """Keras' Adam, [0, 1] RGB straight into the network, the paper's style cost."""
    style_layers = [("r11", 0.2), ("r21", 0.2), ("r31", 0.2), ("r41", 0.2), ("r51", 0.2)]
    content_layer = "r54"

    def gram_matrix(a):
        return torch.matmul(a, a.t())

    def compute_content_cost(a_c, a_g):
        _, n_c, n_h, n_w = a_g.shape
        return 1 / (4 * n_h * n_w * n_c) * torch.sum(torch.square(a_c - a_g))

    def compute_layer_style_cost(a_s, a_g):
        _, n_c, n_h, n_w = a_g.shape
        gs = gram_matrix(a_s.reshape(n_c, n_h * n_w))
        gg = gram_matrix(a_g.reshape(n_c, n_h * n_w))
        return 1 / (4 * n_c**2 * (n_h * n_w) ** 2) * torch.sum(torch.square(gs - gg))

    a_c, a_s = (activations(weights, batch(pixels, weights)) for pixels in (content, style))

    def costs(image):
        a_g = activations(weights, image)
        j_style = sum(
            weight * compute_layer_style_cost(a_s[layer], a_g[layer])
            for layer, weight in style_layers
        )
        j_content = compute_content_cost(a_c[content_layer], a_g[content_layer])
        return 10 * j_content + 40 * j_style, 10 * j_content, 40 * j_style

    # The notebook's own test has updated a copy of the image twice with the same optimiser.
    optimizer = keras_adam(learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-7, iterations=2)
    return trained(batch(start, weights).requires_grad_(True), costs, optimizer, steps)


# --- pytorch-tutorial -----------------------------------------------------------------------------
# pytorch/tutorials @ 0a7e6866, advanced_source/neural_style_tutorial.py


def pytorch_tutorial_pictures(content, style, size=512):
    """`Resize(size)`; the source requires pictures of one size, so the style is resized to fit."""
    content = resized_by_torchvision(content, size)
    height, width, _ = content.shape
    style = resized(style, width, height, Image.Resampling.BILINEAR)
    return to_tensor(content), to_tensor(style)


def pytorch_tutorial(weights, content, style, start, steps):
    """L-BFGS without a line search on [0, 1] RGB that the closure clamps; losses before the ReLU."""
    content_layers = ["conv_4"]
    style_layers = ["conv_1", "conv_2", "conv_3", "conv_4", "conv_5"]
    style_weight, content_weight = 1000000, 1
    dtype = weights[0][0].dtype
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=dtype).view(-1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=dtype).view(-1, 1, 1)
    modules = torchvision_modules(weights[: len(style_layers)])  # ends after conv_5 and its ReLU

    def model(x):
        # Convolutions are counted from 1. The source replaces the ReLUs by ones not in place.
        x, outputs = (x - mean) / std, {}
        for layer in modules:
            if isinstance(layer, nn.ReLU):
                x = functional.relu(x)
                continue
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                outputs[f"conv_{len(outputs) + 1}"] = x
        return outputs

    def gram_matrix(x):
        a, b, c, d = x.size()
        features = x.view(a * b, c * d)
        return torch.mm(features, features.t()).div(a * b * c * d)

    of_content, of_style = model(batch(content, weights)), model(batch(style, weights))
    content_targets = {name: of_content[name] for name in content_layers}
    style_targets = {name: gram_matrix(of_style[name]) for name in style_layers}
    input_img = batch(start, weights).requires_grad_(True)
    optimizer = torch.optim.LBFGS([input_img])
    history = []

    def closure():
        input_img.data.clamp_(0, 1)
        optimizer.zero_grad()
        outputs = model(input_img)
        style_score = content_score = 0
        for name, target in style_targets.items():
            style_score += functional.mse_loss(gram_matrix(outputs[name]), target)
        for name, target in content_targets.items():
            content_score += functional.mse_loss(outputs[name], target)
        style_score *= style_weight
        content_score *= content_weight
        loss = style_score + content_score
        loss.backward()
        history.append((loss.item(), content_score.item(), style_score.item()))
        return loss

    while len(history) <= steps:
        optimizer.step(closure)
    return history[: steps + 1]


SOURCES = {
    "udacity": Source(udacity_pictures, udacity, 400),
    "gatys-pytorch": Source(gatys_pytorch_pictures, gatys_pytorch, 512),
    "tf": Source(tf_pictures, tf, 512),
    "coursera-tf2": Source(coursera_tf2_pictures, coursera_tf2, 400),
    "pytorch-tutorial": Source(pytorch_tutorial_pictures, pytorch_tutorial, 512),
}
