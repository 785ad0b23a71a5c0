"""Makes the files beside it with OpenCV, Pillow and NumPy: what the crate's results are compared with.

    pip install opencv-python-headless==5.0.0.* pillow==13.0.0 numpy==2.4.6
    python generate.py

`decode/NAME` is an image, `decode/NAME.rgb` its pixels as Pillow reads them; `pixels/NAME.rgb` are pixels that
OpenCV made from the pattern below. A `.rgb` file is width and height as 32-bit numbers (little end first), then
three bytes a pixel.
"""

import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent


def pattern(width, height):
    """Every pixel unlike its neighbours; golden.rs has the same."""
    x, y, c = np.meshgrid(np.arange(width), np.arange(height), np.arange(3), indexing="xy")
    return ((x * x * 31 + y * y * 17 + x * y * 7 + c * 50 + c * x * 3) % 256).astype(np.uint8)


def smooth(width, height):
    """What survives JPEG and lossy WebP."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [255 * x, 255 * y, 127 + 100 * np.sin(4 * (x - y))]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def write(path, rgb):
    assert rgb.dtype == np.uint8 and rgb.shape[2] == 3
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<II", rgb.shape[1], rgb.shape[0]) + rgb.tobytes())


def save(name, image, expected=None, **options):
    path = HERE / "decode" / name
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)
    if expected is None:
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    write(path.with_name(name + ".rgb"), expected)
    return path


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def decoding():
    odd = Image.fromarray(pattern(17, 11))
    grey = Image.fromarray(pattern(13, 7)[:, :, 0])
    alpha = Image.fromarray(np.dstack([pattern(9, 15), pattern(9, 15)[:, :, 0]]))
    soft = Image.fromarray(smooth(37, 23))
    save("odd.png", odd)
    save("grey.png", grey)
    save("alpha.png", alpha)
    save("grey_alpha.png", Image.merge("LA", [grey, grey.transpose(Image.Transpose.ROTATE_180)]))
    save("one_bit.png", grey.convert("1"))
    save("palette.png", odd.quantize(16))
    save("palette_alpha.png", odd.quantize(16), transparency=3)
    # OpenCV writes and reads 16 bits in colour, Pillow only in grey.
    wide = pattern(12, 5).astype(np.uint16) * 257 + 77
    for name, pixels in [("wide.png", wide), ("wide_grey.png", wide[:, :, 0])]:
        path = HERE / "decode" / name
        cv2.imwrite(str(path), pixels)
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        write(path.with_name(name + ".rgb"), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    save("line.png", Image.fromarray(pattern(1, 300)))
    save("baseline.jpg", soft, quality=95)
    save("full_colour.jpg", soft, quality=95, subsampling=0)
    save("progressive.jpg", soft, quality=95, progressive=True, subsampling=0)
    save("grey.jpg", soft.convert("L"), quality=95)
    save("cmyk.jpg", soft.convert("CMYK"), quality=95)
    for orientation in range(1, 9):
        save(f"turned{orientation}.jpg", soft, quality=95, subsampling=0, exif=oriented(orientation))
    save("turned6.png", odd, exif=oriented(6))
    save("turned8.webp", odd, lossless=True, exif=oriented(8))
    save("lossless.webp", odd, lossless=True)
    save("lossy.webp", soft, quality=95)
    save("alpha.webp", alpha, lossless=True, exact=True)
    frames = [Image.fromarray(pattern(21, 8)), Image.fromarray(255 - pattern(21, 8))]
    for name, options in [("moving.webp", {"lossless": True}), ("moving.gif", {}), ("moving.png", {})]:
        many = [frame.quantize(64) if name.endswith("gif") else frame for frame in frames]
        save(name, many[0], save_all=True, append_images=many[1:], duration=100, **options)
    save("clear.gif", odd.quantize(16), transparency=5)
    save("odd.bmp", odd)
    save("palette.bmp", odd.quantize(16))
    save("grey.bmp", grey)


def squared(rgb, width, height, fill):
    side = max(rgb.shape[:2])
    frame = np.full((side, side, 3), fill, np.uint8)
    top, left = (side - rgb.shape[0]) // 2, (side - rgb.shape[1]) // 2
    frame[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)


def letterboxed(rgb, width, height):
    own_height, own_width = rgb.shape[:2]
    r = min(height / own_height, width / own_width)
    new = (int(round(own_width * r)), int(round(own_height * r)))
    dw, dh = (width - new[0]) / 2, (height - new[1]) / 2
    if (own_width, own_height) != new:
        rgb = cv2.resize(rgb, new, interpolation=cv2.INTER_LINEAR)
    sides = [int(round(dh - 0.1)), int(round(dh + 0.1)), int(round(dw - 0.1)), int(round(dw + 0.1))]
    grey = (127.5, 127.5, 127.5)
    return cv2.copyMakeBorder(rgb, *sides, cv2.BORDER_CONSTANT, value=grey), r, sides


def resizing():
    for source, target, fill in [
        ((37, 23), (28, 28), 128),
        ((23, 38), (28, 28), 127),
        ((9, 5), (40, 33), 128),
        ((64, 64), (32, 32), 0),
        ((1, 51), (14, 14), 128),
        ((400, 1), (20, 20), 128),
        ((1920, 1080), (56, 56), 128),
        ((1999, 3001), (48, 31), 128),
        ((1, 1), (4, 4), 0),
        ((45, 45), (45, 45), 128),
    ]:
        name = f"square_{source[0]}x{source[1]}_{target[0]}x{target[1]}_{fill}.rgb"
        write(HERE / "pixels" / name, squared(pattern(*source), *target, fill))
    for source in [(803, 601), (1000, 1000), (82, 64), (50, 31), (1366, 768)]:
        rgb, _, _ = letterboxed(pattern(*source), 82, 64)
        write(HERE / "pixels" / f"letterbox_{source[0]}x{source[1]}_82x64.rgb", rgb)


def crosses():
    for x, y in [(30, 20), (0, 0), (59, 39), (3, 37)]:
        rgb = pattern(60, 40)
        cv2.drawMarker(rgb, (x, y), (0, 255, 0), cv2.MARKER_CROSS, 25, 1)
        write(HERE / "pixels" / f"cross_{x}_{y}.rgb", rgb)


def numbers():
    kinds = {
        "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    }
    for name, (mean, std) in kinds.items():
        floats = pattern(16, 16).astype(np.float32) / np.float32(255)
        floats = ((floats - np.float32(mean)) / np.float32(std)).astype("<f4")
        (HERE / "pixels" / f"{name}.nhwc").write_bytes(floats.tobytes())
        (HERE / "pixels" / f"{name}.nchw").write_bytes(floats.transpose(2, 0, 1).tobytes())


def points():
    """Scores by a formula, each with the point and the pixel of a screen: width height seed cx cy px py."""
    lines = []
    for width, height, seed in [(1920, 1080, 1), (1366, 768, 2), (1000, 1000, 3), (803, 601, 4), (200, 4000, 5)]:
        _, r, (top, _, left, _) = letterboxed(np.zeros((height, width, 3), np.uint8), 1148, 896)
        i = np.arange(41 * 32)
        scores = (((i * i * 31 + i * 7 * seed) % 1009) / 1009).astype(np.float32)
        # A few that stand out, in one corner.
        scores[(i % 41 > 41 - 6 * seed) | (i // 41 > 10)] *= 0.1
        active = np.flatnonzero(scores > 0.3 * scores.max())
        weights = scores[active].astype(np.float64)
        cx = (weights * (active % 41 + 0.5) / 41).sum() / weights.sum()
        cy = (weights * (active // 41 + 0.5) / 32).sum() / weights.sum()
        px = int(np.clip(int((cx * 1148 - left) / r), 0, width - 1))
        py = int(np.clip(int((cy * 896 - top) / r), 0, height - 1))
        lines.append(f"{width} {height} {seed} {cx:.9f} {cy:.9f} {px} {py}\n")
    (HERE / "pixels" / "points.txt").write_text("".join(lines))


decoding()
resizing()
crosses()
numbers()
points()
