"""Published recipes whose style losses compare distributions of features, not only Gram matrices.

The source of a recipe is the paper or program whose method it computes; comments state where the recipe
departs from its source. The module `presets` has the list of all recipes, and says what holds for all
published ones.
"""

from nst_jax import losses, optimizers, vgg
from nst_jax.recipes import filters, sizes, starts
from nst_jax.recipes.descent import Descent
from nst_jax.recipes.pictures import Pictures
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.schedules import GeometricScales, Halvings
from nst_jax.recipes.terms import STYLE_TAPS, SecondStyle, Terms
from nst_jax.vgg import layers

# --- Wasserstein-2 distance of Gaussians ----------------------------------------------------------

# How many times larger a difference of colours is in the pixels of the embedded network than in those
# of torchvision's. The embedded network (the one whose weights are in this package) reads pixels on a
# scale from 0 to 255. torchvision's network reads pixels on a scale from 0 to 1, divided by the
# standard deviation of ImageNet's pixels, of which the mean over the three channels is used here.
GREY_LEVELS = 255 * sum(vgg.TORCHVISION.spread) / 3

# The source runs on torchvision's weights, whose features are smaller than those of the weights in this
# package (the embedded ones). The content and the style loss are both squares of features, so with the
# embedded weights both are larger by the same factor; Adam's updates would not change if all losses
# were multiplied by the same number. But the variation loss is a square of pixels, so its weight has
# to be multiplied by that factor too. It is assumed that features grow like the pixels that the network
# reads, `GREY_LEVELS` times, and their squares `GREY_LEVELS`² times. Whether this holds at each layer
# is not known, since torchvision's weights were not available. For the same reason, the weights of the
# style layers are the source's, unchanged, although they depend on how large the features of one layer
# are beside those of another. With torchvision's weights, use `tv_weight=2`, the source's number.
# Further departures: the source adds 1e-4 to variances; the same number is added here, where it is less
# in proportion to the larger features. The source makes the pictures of every scale (resolution) from
# the originals by Pillow's bicubic filter; here the pictures of the coarser scales are reduced from
# those of the last scale, by a Lanczos filter. In the source, a style smaller than the canvas keeps its
# size at every scale; here it keeps its size only at the last scale, and at the others it is reduced by
# the same factor as the canvas.
# Like the source, the recipe makes 1000 updates at the coarsest scale and 500 at each later one: 2000
# for 256 px, 3000 for 512 px, 4000 for 1024 px. If `steps` is given, it is the total number, which is
# divided in the same proportion.
# The source ran with PyTorch 1.13 to 2 and Pillow 9. The functions that it calls in these libraries
# compute the same today.
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
        steps=None,
        schedule=GeometricScales(per_halving=2.0, smallest=128, first=1000, later=500),
        enlarge=filters.torch_bicubic,
        average_decay=0.99,
    ),
)


# --- Sliced Wasserstein distance ------------------------------------------------------------------

# This recipe synthesises a texture: of the content picture only the size is used, as the size of the
# canvas. The source uses the style at its original size, cropped to multiples of 8 px. Here the style
# is resized to a longer side of 256 px; it is not cropped, but each pooling drops an odd last row or
# column.
# The source's network has weights that are scaled so that activations are about 1 in each layer. Here
# the weights are those that come with this package. Instead, the loss at each layer is divided by the
# square of the layer's mean activation. `sliced_layer_weights` of `tests/make_quality_golden.py`
# measures these means on the package's sample pictures at 256 px; the `style_layer_weights` below are 1
# divided by their squares.
# The source calls torch's L-BFGS 64 times, for 64 evaluations of the loss each. There, such a call may
# end before its 64th evaluation; here all 4096 evaluations are made.
# The source ran with PyTorch 1, whose L-BFGS computes the same as that of today's PyTorch.
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

# The source's default optimiser is SciPy's L-BFGS-B with a line search; this recipe computes what the
# source computes with its option `--optimizer adam`.
# Departures: the source matches histograms of 256 bins, of features to the power of 1/4; here the
# features themselves are matched, without bins and without a power (see `losses.channel_histograms`).
# The source resizes pictures with OpenCV's INTER_AREA; here a Lanczos filter is used. Parts of the
# paper's method are left out here, among them several scales, and weights that adapt to the gradients.
# The source ran with TensorFlow 1 of 2017, whose Adam is defined like Keras' Adam.
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
        # The source's "conv4_2" is the output of the convolution without its bias. Here the bias is
        # included, but it cancels in the difference of the features of canvas and content.
        content_taps=("preact4_2",),
        content_loss=losses.CONTENT_HALF_OVER_ROOT,
        content_weight=5.0,
        style_taps=STYLE_TAPS,
        style_loss=losses.GRAM_PAPER,
        # The source has the weight 1e4 and layer weights of 1/5, which are also the default of `Terms`.
        # It divides by the number of layers, 5, once more.
        style_weight=1e4 / 5,
        second_style=SecondStyle(
            taps=("relu1_1", "relu4_1"),
            layer_weights=(0.5, 0.5),
            loss=losses.CHANNEL_HISTOGRAMS,
            # The source has the weight 1e6 and layer weights of 1/2, and divides by the number of
            # layers, 2, once more. Here `style_weight`, 1e4 / 5, multiplies this loss, too. So the
            # weight is divided by it.
            weight=(1e6 / 2) / (1e4 / 5),
        ),
        variation=losses.MEAN_VARIATION,
        # This variation squares differences of pixels, which are from 0 to 1 here. The source has the
        # weight 1e-3, for pixels from 0 to 255.
        tv_weight=1e-3 * 255**2,
    ),
    descent=Descent(
        optimizer=optimizers.KerasAdam(learning_rate=1.0, b1=0.9, b2=0.999, eps=1e-8),
        # The source optimises pixels in the order RGB, not BGR. The result is the same, since Adam
        # treats each channel alike.
        coordinates=vgg.CAFFE_BGR,
        steps=1000,
    ),
)


# --- Nearest neighbours ---------------------------------------------------------------------------

# The source runs on torchvision's VGG-16. This recipe runs on VGG-19, in which the layers that the
# style loss reads (relu1_1 to relu4_3, see `NNST_TAPS`) have the same names and numbers of channels.
# But VGG-19 has one more convolution in block 3, so its layers of block 4 are one convolution deeper.
# The layer weights are those of the source, although features are not equally large in the two
# networks. If all features were larger by one factor, nothing would change, since the loss compares
# cosines. What differs is the share of each layer in a hypercolumn (a vector with the features of all
# these layers at one place): it depends on how large the layer's features are beside those of the other
# layers.
# The source reduces content and style to coarser scales (resolutions) by repeated bilinear halving;
# here the pictures of every scale are made from the final size, antialiased. At 1024 px and more, the
# source adds the finest levels of the content's Laplacian pyramid to the canvas at the beginning of two
# scales; here nothing is added at any scale. A scale passes on the canvas after its last update; the
# source passes on the one before it. For what differs from the source in the final pass, see
# `losses.matching.distance_to_nearest`; for what differs in the colours, see
# `images.palettes.recoloured`.
# The source's optional content loss, off by default, is left out: `content_weight` is 0. During the
# updates, the content has an effect only on which features of the style are chosen as nearest
# neighbours: the search is made for a picture that is mixed from content and canvas, in which the
# content has the weight `search_content`.
# It is not known with which versions of its libraries the source ran.
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
        # A departure: the source reduces files to 512 px by PyTorch's bilinear interpolation, which is
        # not antialiased (`load_path_for_pytorch` in its utils/misc.py); here an antialiasing filter
        # was chosen.
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
        # At the size of 512 px, the 1000 updates are 200 at each of the scales with a longer side of
        # 64, 128, 256 and 512 px, and 200 more at 512 px with `last_style_loss` (the source's final
        # pass).
        steps=1000,
        schedule=Halvings(smallest=64, passes=2),
    ),
)


# --- Relaxed transport ----------------------------------------------------------------------------

# The source runs on torchvision's VGG-16. This recipe runs on VGG-19, in which the layers that the
# losses read have the same names and numbers of channels. In VGG-16, relu3_3, relu4_3 and relu5_3 are
# the ends of their blocks. In VGG-19, one more convolution of the block follows after each of them.
# Each vector that the source compares has the colour of a position, three numbers from 0 to 1, and its
# features. The moment loss compares the means of these numbers and of their products. So the result
# depends on how large features are. With torchvision's weights, on which the source ran, features are
# used as they are. With the embedded weights (those in this package) the features of each layer are
# divided by their mean activation over the package's sample pictures; see `correspondence.units_of`.
# One divisor for all layers would not do. With 57.6 (`GREY_LEVELS`), for instance, the mean activation
# would be 0.1 in relu5_3 and 5.9 in relu3_3. The moment loss would then outweigh the other losses, and
# pictures would copy the style.
# The losses compare canvas and style at random places (positions of a grid). In the source's code, all
# places of a scale (resolution) come from the scale's first grid, although the code draws new grids;
# and the rows and the columns of the places are shuffled separately. `losses.random_places` does what
# the code seems meant to do: it uses each new grid, and keeps the row and the column of a place
# together. In the source, the last update of a scale is lost: the next scale starts from the canvas
# before this update. Here it starts from the updated canvas. The source resizes its pyramid with
# torch's `align_corners=True`; here it is resized with half-pixel centres, which is
# `align_corners=False`. The source resizes its files bilinearly, without antialiasing, to each scale;
# here the pictures of every scale are made from those of the final size, antialiased.
# The source ran with PyTorch 0.4 or 1. The functions of PyTorch that it calls compute the same today.
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
        # At the recipe's size, 512 px, these are 250 updates each at 64, 128, 256 and 512 px.
        steps=1000,
        schedule=Halvings(smallest=64),
    ),
)
