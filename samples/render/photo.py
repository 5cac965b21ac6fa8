"""From a scene to a photo file: Cycles with denoising, then what a small camera adds, then JPEG."""

import io
import tempfile
from pathlib import Path

import bpy
import numpy as np
from PIL import Image, ImageFilter


def render(width: int, height: int, paths: int, seed: int, exposure: float = 0.0, threads: int = 2) -> Image.Image:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.cycles.device, scene.cycles.seed = "CPU", seed
    scene.cycles.samples, scene.cycles.use_adaptive_sampling, scene.cycles.adaptive_threshold = paths, True, 0.04
    scene.cycles.use_denoising, scene.cycles.denoiser = True, "OPENIMAGEDENOISE"
    scene.cycles.max_bounces, scene.cycles.diffuse_bounces, scene.cycles.glossy_bounces = 8, 3, 3
    scene.cycles.transparent_max_bounces, scene.cycles.transmission_bounces = 8, 8
    scene.cycles.sample_clamp_indirect, scene.cycles.blur_glossy = 6.0, 0.5
    scene.cycles.caustics_refractive = scene.cycles.caustics_reflective = False
    scene.view_settings.view_transform, scene.view_settings.look = "AgX", "AgX - Medium High Contrast"
    scene.view_settings.exposure = exposure
    scene.render.image_settings.file_format = "PNG"
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder, "render.png"))
        bpy.ops.render.render(write_still=True)
        return Image.open(scene.render.filepath).convert("RGB")


def developed(clean: Image.Image, seed: int, noise: float = 0.75) -> Image.Image:
    """What a phone's camera adds: darker corners, blotchy noise that grows in the shadows, and sharpening."""
    pixels = np.asarray(clean, dtype=np.float32) / 255.0
    height, width, _ = pixels.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    pixels = pixels * (1 - 0.13 * (x**2 + y**2))[:, :, None]
    rng = np.random.default_rng(seed)
    brightness = rng.normal(0, 1, (height, width, 1))
    colour = rng.normal(0, 1, (height // 3 + 1, width // 3 + 1, 3))
    colour = np.repeat(np.repeat(colour, 3, 0), 3, 1)[:height, :width]
    strength = noise * (0.011 + 0.014 * np.sqrt(1 - np.clip(pixels, 0, 1)))
    pixels = pixels + strength * (0.8 * brightness + 0.35 * colour)
    grainy = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
    return grainy.filter(ImageFilter.GaussianBlur(0.45)).filter(ImageFilter.UnsharpMask(1.2, 60, 2))


def save(photo: Image.Image, path: Path, held_upright=False, quality: int = 88, most_bytes: int = 490_000) -> int:
    """Write the JPEG, lowering the quality until it fits; returns its size.

    A phone held upright stores the picture as its sensor sees it, on its side, and says so in EXIF: orientation 6.
    """
    exif = Image.Exif()
    if held_upright:
        photo = photo.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6
    while True:
        written = io.BytesIO()
        photo.save(written, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, exif=exif.tobytes())
        if written.tell() <= most_bytes or quality <= 70:
            path.write_bytes(written.getvalue())
            return written.tell()
        quality -= 2
