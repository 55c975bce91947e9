"""Published recipes whose style losses compare more of the features than their Gram matrices.

`presets` lists them beside the others, and says what holds for all published recipes.
"""

from nst_jax import losses, optimizers, vgg
from nst_jax.recipes import filters, sizes, starts
from nst_jax.recipes.recipe import STYLE_TAPS, Descent, Pictures, Recipe, SecondStyle, Terms
from nst_jax.recipes.schedules import GeometricScales, Halvings
from nst_jax.vgg import layers

# --- Wasserstein-2 distance of Gaussians ----------------------------------------------------------

# The standard deviation of ImageNet's pixels, by which torchvision's network divides its input: the
# mean over the channels, in grey levels from 0 to 255, the unit in which the embedded network reads
# pixels.
GREY_LEVELS = 255 * sum(vgg.TORCHVISION.spread) / 3

# The source runs on torchvision's weights, whose features are smaller than those of the embedded
# weights. Its content and style losses are both squares of features, so they grow by the same factor,
# and Adam's updates do not change if all losses are multiplied by a number. But the variation is a
# square of pixels, so its weight has to grow by that factor too. It is assumed that features grow like
# the pixels that the network reads: `GREY_LEVELS` times. Whether this holds at each layer is not known,
# since torchvision's weights were not available. With torchvision's weights, use `tv_weight=2`, the
# source's number.
# Further departures: the source adds 1e-4 to variances, which is less here in proportion to the larger
# features. The source makes the pictures of every scale from the originals by Pillow's bicubic filter;
# here those of the coarser scales are reduced from those of the last scale, by a Lanczos filter. In the
# source, a style smaller than the canvas keeps its size at every scale; here it does so only at the
# last scale, and at the others it is reduced by the same factor as the canvas.
# The source makes 3000 updates for 512 px, and 500 more or fewer for each factor √2 in size; here their
# number stays 3000 for other sizes, unless `steps` is given.
# Versions: PyTorch 1.13 to 2, Pillow 9; what the source uses of them computes the same today.
CROWSONKB = Recipe(
    name="crowsonkb",
    source="crowsonkb/style-transfer-pytorch @ e7e2c713, style_transfer/style_transfer.py, with Adam; "
    "weight of the variation for the embedded weights (for torchvision's, which it used: 2)",
    pictures=Pictures(
        size=sizes.LongEdge(512),
        style_size=sizes.LongEdgeUpTo(512),
        resize=filters.pillow_bicubic,
    ),
    network=vgg.Network(padding=layers.replicate_first),
    terms=Terms(
        content_weight=0.015,
        style_layer_weights=tuple(weight / 341 for weight in (256, 64, 16, 4, 1)),
        style_loss=losses.WASSERSTEIN_ABSOLUTE,
        variation=losses.NINE_POINT_VARIATION,
        tv_weight=2.0 * GREY_LEVELS**2,
    ),
    descent=Descent(
        optimizer=optimizers.Adam(learning_rate=0.02, b1=0.9, b2=0.99, eps=1e-8, carry=True),
        clip=True,
        steps=3000,
        schedule=GeometricScales(per_halving=2.0, smallest=128, first=1000, later=500),
        enlarge=filters.torch_bicubic,
        average_decay=0.99,
    ),
)


# --- Sliced Wasserstein distance ------------------------------------------------------------------

# Texture synthesis: only the size of the content picture is used, as the size of the canvas. The source
# does not resize its texture, and crops it to multiples of 8 px; here the poolings drop an odd last row
# or column.
# Its network has weights of its own, scaled so that activations are about 1 in each layer. Here each
# layer's loss is divided by the square of the layer's mean activation in the embedded network, over the
# sample pictures at 256 px: `sliced_layer_weights` of `tests/make_quality_golden.py`.
# The source calls torch's L-BFGS 64 times, for 64 evaluations each. If one of these calls ends before
# its 64th evaluation, the run here goes on instead.
# Versions: PyTorch 1, whose L-BFGS computes the same as today's.
SLICED_WASSERSTEIN = Recipe(
    name="sliced-wasserstein",
    source="tchambon/A-Sliced-Wasserstein-Loss-for-Neural-Texture-Synthesis @ 491ee6db, "
    "texture_optimization_slicing.py",
    pictures=Pictures(
        size=sizes.LongEdge(256),
        start=starts.StyleMeanNoise(deviation=0.01),
    ),
    network=vgg.Network(pool=layers.average_pool, padding=layers.reflect_padded),
    terms=Terms(
        content_taps=("relu1_1",),
        content_weight=0.0,
        style_taps=(
            *("relu1_1", "relu1_2", "relu2_1", "relu2_2"),
            *("relu3_1", "relu3_2", "relu3_3", "relu3_4"),
            *("relu4_1", "relu4_2", "relu4_3", "relu4_4"),
        ),
        style_layer_weights=(
            *(0.00201, 9.86e-05, 0.000114, 0.00012),
            *(0.000313, 0.000211, 4.81e-05, 2.09e-05),
            *(4.15e-05, 0.000107, 0.000437, 0.00724),
        ),
        style_loss=losses.SLICED_WASSERSTEIN,
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(tolerance_grad=0.0),
        steps=4096,
    ),
)


# --- Histograms -----------------------------------------------------------------------------------

# The source's default is SciPy's L-BFGS-B with a line search; this recipe is the source with its option
# `--optimizer adam`.
# The source matches histograms of 256 bins, of features to the power of 1/4; here values are matched
# exactly (see `losses.channel_histograms`). It resizes with OpenCV's INTER_AREA, here with a Lanczos
# filter. The paper has further parts, among them several scales, and weights that adapt to the
# gradients.
# Versions: TensorFlow 1 of 2017, whose Adam is Keras' Adam.
HISTOGRAM = Recipe(
    name="histogram",
    source="rejunity/neural-style-tf @ 89839ce4, neural_style.py with --optimizer adam, after Risser, "
    "Wilmot, Barnes, Stable and Controllable Neural Texture Synthesis and Style Transfer Using "
    "Histogram Losses, 2017",
    pictures=Pictures(
        size=sizes.LongEdgeUpTo(512, sizes.truncated),
        style_size=sizes.LikeContent(),
        resize=filters.antialiased,
    ),
    network=vgg.Network(pool=layers.average_pool, ceil=True),
    terms=Terms(
        # The source's "conv4_2" is a convolution without its bias, which cancels out in the difference.
        content_taps=("preact4_2",),
        content_loss=losses.CONTENT_HALF_OVER_ROOT,
        content_weight=5.0,
        style_taps=STYLE_TAPS,
        style_loss=losses.GRAM_PAPER,
        style_weight=1e4 / 5,  # beside layer weights of 1/5, the source divides by the 5 layers
        second_style=SecondStyle(
            taps=("relu1_1", "relu4_1"),
            layer_weights=(0.5, 0.5),
            loss=losses.CHANNEL_HISTOGRAMS,
            # `style_weight` multiplies this loss too, so it is divided by here.
            weight=(1e6 / 2) / (1e4 / 5),
        ),
        variation=losses.MEAN_VARIATION,
        tv_weight=1e-3 * 255**2,  # the source's pixels are in 0..255
    ),
    descent=Descent(
        optimizer=optimizers.KerasAdam(learning_rate=1.0, b1=0.9, b2=0.999, eps=1e-8),
        # The source optimises RGB pixels, but the order of the channels makes no difference in Adam.
        coordinates=vgg.CAFFE_BGR,
        steps=1000,
    ),
)


# --- Nearest neighbours ---------------------------------------------------------------------------

# The source runs on torchvision's VGG-16, whose taps down to relu4_3 have these names and sizes, too;
# here it is VGG-19, in which each tap of block 4 is one convolution deeper. No weight needs another
# value for that: a cosine does not change with the size of all features. How much each tap counts in a
# hypercolumn is up to the network's weights, though.
# The source reduces content and style to coarser scales by bilinear halvings; here every scale is made
# from the final size, antialiased. At 1024 px and more, the canvas of two of the source's scales starts
# with the finest levels of the content's Laplacian pyramid, too; here that of no scale does. The
# docstring of `losses.matching.distance_to_nearest` says what differs in the source's final pass, and
# that of `images.palettes.recoloured` what differs in its colours.
# The source's optional content loss, off by default, is left out: `content_weight` is 0, and the
# content is kept by the matches alone, by `search_content`.
# Versions: with which versions of its libraries the source ran is not known.
NNST_TAPS = (
    "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3",
    "relu4_1", "relu4_2", "relu4_3",
)  # fmt: skip

NNST = Recipe(
    name="nnst",
    source="nkolkin13/NeuralNeighborStyleTransfer @ 290976ab, its optimisation (NNST-Opt)",
    family="vgg16-torchvision",
    pictures=Pictures(
        size=sizes.LongEdge(512),
        # How the source reduces files to 512 px is not known; this filter does not alias.
        resize=filters.antialiased,
        colors="palette",
    ),
    terms=Terms(
        content_taps=("relu4_2",),
        content_weight=0.0,
        style_taps=NNST_TAPS,
        style_layer_weights=(1.0,) * 10,
        style_loss=losses.NEAREST_HYPERCOLUMNS,
        last_style_loss=losses.NEAREST_BY_TAP,
        search_content=0.75,
    ),
    descent=Descent(
        optimizer=optimizers.Adam(learning_rate=2e-3, b1=0.9, b2=0.999, eps=1e-8),
        pyramid_levels=8,
        one_pyramid=True,
        enlarge=filters.bilinear,
        # 200 updates each at 64, 128, 256 and 512 px, and in the final pass at 512 px.
        steps=1000,
        schedule=Halvings(smallest=64, passes=2),
    ),
)


# --- Relaxed transport ----------------------------------------------------------------------------

# The source runs on torchvision's VGG-16, whose taps have these names and numbers of channels, too;
# here it is VGG-19, in which relu4_3 and relu5_3 are followed by another convolution in their block.
# Its vectors have colours, which are numbers from 0 to 1, beside features, and its moments compare
# features and their squares. So the features have to be as large as with torchvision's weights. They
# are divided by `correspondence.unit_of`, 57.6 for the embedded weights and 1 for torchvision's: it is
# assumed that features grow like the pixels that the network reads. Whether that holds at each layer
# is not known, since torchvision's weights were not available.
# In the source's code, the places of a scale come from its first grid, though it draws new ones, and
# rows and columns of the places are shuffled apart; `losses.random_places` does what seems meant. A
# scale passes on the canvas before its last update, here the one after it. The source's pyramid is
# resized with aligned corners, here with half-pixel centres. It resizes its files bilinearly, without
# antialiasing, to each scale; here every scale is made from the final size, antialiased.
# Versions: PyTorch 0.4 or 1; what the source uses of them computes the same today.
STROTSS_TAPS = (
    "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu4_3", "relu5_3",
)  # fmt: skip

STROTSS = Recipe(
    name="strotss",
    source="nkolkin13/STROTSS @ 9a1543a3, styleTransfer.py with content weight 1 and max_scl 5",
    family="vgg16-torchvision",
    pictures=Pictures(
        size=sizes.LongEdge(512),
        resize=filters.antialiased,
        start=starts.StyleMeanDetail(),
    ),
    terms=Terms(
        content_taps=STROTSS_TAPS,
        content_layer_weights=(1.0,) * 9,
        content_loss=losses.CONTENT_SELF_SIMILARITY_AT_PLACES,
        style_taps=STROTSS_TAPS,
        style_layer_weights=(1.0, 1.0, 1.0),
        style_loss=losses.RELAXED_TRANSPORT,
        content_against_style=16.0,
    ),
    descent=Descent(
        optimizer=optimizers.RMSprop(learning_rate=2e-3, alpha=0.99, eps=1e-8),
        last_learning_rate=1e-3,
        pyramid_levels=5,
        enlarge=filters.bilinear,
        content_detail=True,
        # 250 updates each at 64, 128, 256 and 512 px.
        steps=1000,
        schedule=Halvings(smallest=64),
    ),
)
