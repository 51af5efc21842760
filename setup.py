"""Builds hunyuan_ext/_C with CMake and Ninja; everything else about the package is in pyproject.toml.

Environment: HUNYUAN_CUDA = AUTO (default) | ON | OFF, CMAKE_BUILD_PARALLEL_LEVEL, CMAKE_ARGS.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithRecipes(build_py):
    """Puts recipes/**/*.yaml into the package, where `hunyuan-video train NAME` looks for them."""

    def run(self):
        super().run()
        for file in [] if self.editable_mode else sorted((ROOT / "recipes").rglob("*.yaml")):
            target = Path(self.build_lib) / "hunyuan_video" / file.relative_to(ROOT)
            self.mkpath(str(target.parent))
            self.copy_file(str(file), str(target))


class CMakeBuild(build_ext):
    """Runs CMake in the build folder; the module lands where setuptools expects it (in place, or in the wheel)."""

    def build_extension(self, ext):
        wanted = os.environ.get("HUNYUAN_CUDA", "AUTO").upper()
        try:
            self.run_cmake(ext, wanted)
        except FileNotFoundError as error:
            raise SystemExit(
                f"hunyuan-ext: {error.filename} was not found; install cmake and ninja, or drop "
                "--no-build-isolation so that pip brings them"
            ) from None
        except subprocess.CalledProcessError:
            if wanted != "AUTO":
                raise SystemExit("hunyuan-ext: the build failed; the reason is above") from None
            print("hunyuan-ext: the build failed; trying again without CUDA kernels (HUNYUAN_CUDA=OFF)", flush=True)
            self.run_cmake(ext, "OFF")

    def run_cmake(self, ext, cuda):
        import pybind11

        folder = ROOT / "build" / f"{sys.implementation.cache_tag}-{self.plat_name}-cuda-{cuda.lower()}"
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        options = {
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": output,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "HUNYUAN_CUDA": cuda,
        }
        flags = [f"-D{name}={value}" for name, value in options.items()]
        extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
        # The cmake and ninja of this interpreter's environment come first, whether or not it is activated.
        search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        cmake = shutil.which("cmake", path=search) or "cmake"
        environment = os.environ | {"PATH": search}
        configure = [cmake, "--fresh", "-G", "Ninja", "-S", str(ROOT), "-B", str(folder), *flags, *extra]
        subprocess.check_call(configure, env=environment)
        subprocess.check_call([cmake, "--build", str(folder)], env=environment)


setup(
    ext_modules=[Extension("hunyuan_ext._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildWithRecipes},
)
