# CPU kernels: csrc/<family>/cpu/*.cpp is compiled once for each level of simd.h. A suffix names a unit that not every
# processor of a level has; such a file is compiled for it alone. csrc/<family>/*.cpp and csrc/common/host/*.cpp check
# arguments, choose kernels and split work, for any processor.

# hunyuan_objects(NAME "SOURCES" FLAGS...)
function(hunyuan_objects name sources)
  add_library(${name} OBJECT ${sources})
  target_include_directories(${name} PRIVATE csrc csrc/include)
  target_compile_definitions(${name} PRIVATE ${x86_definition})
  target_compile_options(${name} PRIVATE ${ARGN})
  set(kernel_objects ${kernel_objects} $<TARGET_OBJECTS:${name}> PARENT_SCOPE)
endfunction()

# hunyuan_cpu_objects(NAME LEVEL "SOURCES" FLAGS...): compiles SOURCES for simd.h's LEVEL with these flags.
function(hunyuan_cpu_objects name level sources)
  # GCC 12 takes the undefined registers inside its own AVX-512 headers for our mistake (GCC bug 105593).
  hunyuan_objects(${name} "${sources}" -O3 -fno-math-errno -Wall -Wextra -Wno-uninitialized -Wno-maybe-uninitialized
                  ${ARGN})
  string(TOUPPER ${level} upper)
  target_compile_definitions(${name} PRIVATE HUNYUAN_LEVEL_${upper})
  set(kernel_objects ${kernel_objects} PARENT_SCOPE)
endfunction()

hunyuan_glob(cpu_kernels "${families}" cpu/*.cpp)
list(FILTER cpu_kernels EXCLUDE REGEX "_(vbmi|bf16|dot|amx)\\.cpp$")

string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
set(x86_definition "")
if(processor MATCHES "x86_64|amd64")
  set(x86_definition HUNYUAN_X86)
  # Units that a compiler may lack: GCC has AVX512-BF16 since 10 and AMX since 11; AMX is asked for the Linux way.
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag(-mavx512bf16 HUNYUAN_HAS_AVX512BF16)
  check_cxx_compiler_flag("-mamx-tile -mamx-bf16 -mamx-int8" HUNYUAN_HAS_AMX)
  if(HUNYUAN_HAS_AVX512BF16)
    list(APPEND x86_definition HUNYUAN_AVX512BF16)
    if(HUNYUAN_HAS_AMX AND CMAKE_SYSTEM_NAME STREQUAL Linux)
      list(APPEND x86_definition HUNYUAN_AMX)
    endif()
  endif()

  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  hunyuan_cpu_objects(cpu_avx2 avx2 "${cpu_kernels}" ${avx2})
  hunyuan_cpu_objects(cpu_avx512 avx512 "${cpu_kernels}" ${avx512})
  # hunyuan_unit(SUFFIX FLAGS...): the files csrc/<family>/cpu/*_SUFFIX.cpp.
  macro(hunyuan_unit suffix)
    hunyuan_glob(unit_kernels "${families}" cpu/*_${suffix}.cpp)
    hunyuan_cpu_objects(cpu_${suffix} avx512 "${unit_kernels}" ${avx512} ${ARGN})
  endmacro()
  hunyuan_unit(vbmi -mavx512vbmi)
  if(HUNYUAN_AVX512BF16 IN_LIST x86_definition)
    hunyuan_unit(bf16 -mavx512bf16)
    hunyuan_unit(dot -mavx512bf16 -mavx512vbmi -mavx512vnni)
  endif()
  if(HUNYUAN_AMX IN_LIST x86_definition)
    hunyuan_unit(amx -mavx512bf16 -mavx512vbmi -mamx-tile -mamx-bf16 -mamx-int8)
  endif()
endif()
hunyuan_cpu_objects(cpu_scalar scalar "${cpu_kernels}")

hunyuan_glob(host_sources "${families};common/host" *.cpp)
hunyuan_objects(host "${host_sources}" ${host_flags} ${OpenMP_CXX_FLAGS})
target_compile_definitions(host PRIVATE ${api_definition})
