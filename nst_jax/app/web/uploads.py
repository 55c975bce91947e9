"""The pictures of one visitor: photos, style pictures, masks and starts, as files in a folder.

A visitor is somebody who uses the page in a browser. A start is a copy of a picture that an earlier run
(a painting by optimisation) made; a new run starts from it.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _files, images
from nst_jax._types import HostImage, Shape
from nst_jax.app.web import limits
from nst_jax.app.web.limits import safe_name, without_paths
from nst_jax.recipes.sizes import LongEdge

# Names of the masks that a visitor paints on the page: one for the part to protect, and three for
# regions with styles of their own. The page sends the whole mask again soon after a stroke. Since its
# name is fixed, it replaces the file of the earlier mask.
MASKS = ("mask_keep.png", "mask_1.png", "mask_2.png", "mask_3.png")

# What a picture is used for: as the content ("photo"), as a style ("painting"), as a mask, or as the
# picture from which a run starts ("start").
ROLES = ("photo", "painting", "mask", "start")

VIEW = 1024  # upper limit of the longer side, in px, of the copy of a picture that the page shows

# Decoding a large picture takes much memory, so pictures of all visitors are decoded one at a time.
_decoding = threading.Lock()


class Upload(NamedTuple):
    """One picture of a visitor."""

    name: str  # name of its file in the visitor's folder
    shape: Shape  # height and width
    # What was converted or left out when the file was read, such as its colour profile; one line each.
    notes: tuple[str, ...]
    role: str  # what the picture is for, one of `ROLES`
    version: int  # a number that no other upload of the visitor has; new if the file is replaced
    sample: str = ""  # key in `images.SAMPLES` if it is a sample picture of the package, else ""
    # The version of the photo over which a mask was brushed. A mask with 0 may be used with any photo.
    over: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the fields, and "size" as [width, height] in px, as JSON values for the page."""
        return self._asdict() | {"size": [self.shape[1], self.shape[0]]}


class Uploads:
    """All pictures of one visitor, with their files: uploads, chosen samples, painted masks, starts.

    A start is a picture of a run (a painting by optimisation), from which another run starts.
    """

    def __init__(self, folder: Path) -> None:
        """Make an empty collection that keeps its pictures in `folder`, which must exist."""
        self.folder = folder
        self.known: dict[str, Upload] = {}
        self._lock = threading.Lock()
        self._added = 0

    def add(
        self,
        name: str,
        data: bytes,
        role: str = "photo",
        *,
        sample: str = "",
        over: int = 0,
        replaces: Sequence[str] = (),
    ) -> Upload:
        """Check a picture by decoding it, as the command line does, and keep its file.

        Args:
          name: the name that the browser gave the file. If the role is "mask" and the name is one of
            `MASKS`, an earlier mask of this name is replaced.
          data: all bytes of the file.
          role: what the picture is for, one of `ROLES`.
          sample: the key in `images.SAMPLES`, if this is a sample picture of the package; else empty.
          over: the `Upload.version` of the photo over which a mask was brushed. The mask is deleted
            with that photo, and `check_masks` refuses it for other photos. 0 ties it to no photo.
          replaces: names of pictures that are deleted once the new one is kept. If the new one is
            refused, they stay.

        Raises:
          ValueError: with a message of one sentence, if there is no such role or no such photo, if
            the file is no picture, is damaged or too large, if the visitor has too many pictures, or
            if the disk is full.
        """
        with self._lock:
            if role not in ROLES:
                raise ValueError(f"role: expected one of {', '.join(ROLES)}")
            if over and over not in {one.version for one in self.known.values()}:
                raise ValueError("mask: the photo of this part is no longer here; choose another")
            is_mask = role == "mask" and name in MASKS
            left = {*replaces, name} if is_mask else {*replaces}
            self._check_room(name, data, len(self.known.keys() - left))
            chosen = name if is_mask else safe_name(name, {*self.known, *MASKS})
            # The file is written under another name first, so that a damaged mask, or one for which
            # the disk has no room, does not replace an intact one.
            part = self.folder / f"part_{chosen}"
            try:
                part.write_bytes(data)
                with _decoding:
                    picture = images.read(part, argument="picture")
                self._write_view(chosen, picture.image)
            except (ValueError, MemoryError, OSError) as error:
                part.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    reason = f"picture: {chosen!r} cannot be kept: {_files.reason_of(error)}"
                    raise ValueError(reason) from None
                text = str(error).replace(f"part_{chosen}", chosen)
                raise ValueError(without_paths(text, self.folder)) from None
            part.replace(self.folder / chosen)
            height, width = picture.image.shape[:2]
            self._added += 1
            about = picture.notes, role, self._added
            self.known[chosen] = Upload(chosen, (height, width), *about, sample, over)
            for replaced in replaces:
                self._delete(replaced)
            return self.known[chosen]

    def add_sample(self, sample: str, role: str = "photo") -> Upload:
        """Add a sample picture of the package, unless the visitor has it already, and return it.

        Args:
          sample: a key of `nst_jax.images.SAMPLES`.
          role: what the picture is for, one of `ROLES`.

        Raises:
          ValueError: if there is no such sample, or as in `add`.
        """
        if sample not in images.SAMPLES:
            raise ValueError(f"picture: there is no sample {sample!r}")
        # File names are not compared, since an upload may have the same file name as the sample.
        for upload in list(self.known.values()):
            if upload.sample == sample:
                return upload
        path = images.SAMPLES[sample]
        return self.add(path.name, path.read_bytes(), role, sample=sample)

    def remove(self, name: str) -> None:
        """Delete a picture, and the masks that were brushed over it.

        An unknown name is ignored, since the picture may have been removed already.
        """
        with self._lock:
            self._delete(name)

    def check_masks(self, photo: str, masks: Sequence[str]) -> None:
        """Refuse masks that were brushed over another picture than the photo with which they are used.

        The page has one mask for each part. So a tab replaces the mask that another tab has brushed,
        perhaps over another photo.

        Args:
          photo: name of the photo.
          masks: names of the masks.

        Raises:
          ValueError: if one of the masks was brushed over another picture than `photo`.
        """
        chosen = self.known.get(photo)
        for mask in (self.known.get(name) for name in masks):
            if chosen and mask and mask.over not in (0, chosen.version):
                raise ValueError("mask: a part was brushed over another photo; brush it again")

    def view(self, name: str) -> Path:
        """Return the path of the copy that the page shows in place of the picture with this name.

        The copy is a PNG file, which every browser can show. Its longer side is at most `VIEW` px.
        """
        return self.folder / f"view_{name}.png"

    def gallery(self, name: str) -> Path:
        """Return the path of the picture that shows a visitor's photo in 26 styles, side by side.

        The styles are those that a network of the package has learned. `Upload.version` is part of the
        path, so the path is another one for a later photo of the same name.
        """
        return self.folder / f"gallery_{self.known[name].version}_{name}.jpg"

    def _delete(self, name: str) -> None:
        """Delete a picture as `remove` does; the caller holds the lock."""
        if name in self.known:
            self.gallery(name).unlink(missing_ok=True)
            version = self.known.pop(name).version
            (self.folder / name).unlink(missing_ok=True)
            self.view(name).unlink(missing_ok=True)
            for mask in [one.name for one in self.known.values() if one.over == version]:
                self._delete(mask)

    def _write_view(self, name: str, image: HostImage) -> None:
        height, width = image.shape[:2]
        if max(height, width) > VIEW:
            image = images.bicubic_8bit(image, LongEdge(VIEW).shape(height, width))
        images.save(self.view(name), image)

    def _check_room(self, name: str, data: bytes, others: int) -> None:
        """Refuse a file that is empty or too large, or that would be one picture too many.

        `others` is the number of pictures that the visitor will have besides this file.
        """
        if not data:
            raise ValueError(f"picture: {safe_name(name)!r} is empty; choose another file")
        if len(data) > limits.MOST_BYTES:
            raise ValueError(too_large(name))
        if others >= limits.MOST_PICTURES:
            raise ValueError(
                f"picture: you have {limits.MOST_PICTURES} pictures here, which is the most; remove one"
            )


def too_large(name: str) -> str:
    """Return the error message about an uploaded file that has too many bytes."""
    return (
        f"picture: {safe_name(name)!r} is larger than {limits.MOST_BYTES // 10**6} MB; reduce it with "
        "another program first"
    )
