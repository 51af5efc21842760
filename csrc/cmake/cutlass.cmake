# CUTLASS, for the kernels named csrc/<family>/sm*/*_cutlass.cu and nothing else: compiled for 9.0a with its headers and
# HUNYUAN_WITH_CUTLASS, left out (and not chosen by select.cu) where the headers are not found. The answer is the build
# fact "cutlass": its version, or why it is off.
hunyuan_glob(cutlass_kernels "${families}" sm*/*_cutlass.cu)
if(NOT cutlass_kernels)
  set(cutlass "off, no kernel uses it")
  return()
endif()

if(NOT CUTLASS_DIR)
  find_package(Python COMPONENTS Interpreter)
  execute_process(COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u, pathlib as p
s = u.find_spec('cutlass_library')
print(p.Path(s.origin).parent / 'source' if s else '', end='')" OUTPUT_VARIABLE CUTLASS_DIR)
endif()
set(version_header "${CUTLASS_DIR}/include/cutlass/version.h")
if(NOT EXISTS "${version_header}")
  set(cutlass "off, not found (pip install --no-deps nvidia-cutlass==4.2.0.0, or set CUTLASS_DIR)")
  return()
endif()

set(cutlass "")
foreach(part MAJOR MINOR PATCH)
  file(STRINGS "${version_header}" line REGEX "#define CUTLASS_${part} ")
  string(REGEX MATCH "[0-9]+" number "${line}")
  string(APPEND cutlass ".${number}")
endforeach()
string(SUBSTRING "${cutlass}" 1 -1 cutlass)
hunyuan_cuda_objects(cuda_cutlass 90a-real ${cutlass_kernels})
target_include_directories(cuda_cutlass SYSTEM PRIVATE ${CUTLASS_DIR}/include ${CUTLASS_DIR}/tools/util/include)
add_compile_definitions(HUNYUAN_WITH_CUTLASS)
