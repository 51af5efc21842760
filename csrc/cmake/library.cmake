# libhunyuan_kernels, shared and static, with its headers, a CMake package and a pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# What a program in C links beside the static library.
set(static_libraries "")
if(CMAKE_SYSTEM_NAME STREQUAL Linux)
  list(APPEND static_libraries stdc++ m)
endif()
if(OpenMP_CXX_FOUND)
  list(APPEND static_libraries ${OpenMP_CXX_LIB_NAMES})
endif()
set(config_dependencies "")
set(static_flags "${static_libraries}")
if(with_cuda)
  list(APPEND static_libraries CUDA::cudart_static)
  list(APPEND static_flags cudart_static dl rt pthread)
  set(config_dependencies "include(CMakeFindDependencyMacro)\nfind_dependency(CUDAToolkit)")
endif()
list(REMOVE_DUPLICATES static_flags)
list(TRANSFORM static_flags PREPEND -l)
list(JOIN static_flags " " static_flags)

file(STRINGS csrc/include/hunyuan/types.h abi_version REGEX "^#define HUNYUAN_ABI_VERSION ")
string(REGEX MATCH "[0-9]+$" abi_version "${abi_version}")

function(hunyuan_library name type)
  add_library(${name} ${type} ${kernel_objects})
  add_library(hunyuan::${name} ALIAS ${name})
  set_target_properties(${name} PROPERTIES OUTPUT_NAME hunyuan_kernels VERSION ${PROJECT_VERSION}
                                           SOVERSION ${abi_version} LINKER_LANGUAGE CXX)
  target_include_directories(${name} INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/csrc/include>
                                               $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

hunyuan_library(kernels SHARED)
if(OpenMP_CXX_FOUND)
  target_link_libraries(kernels PRIVATE OpenMP::OpenMP_CXX)
endif()
if(with_cuda)
  target_link_libraries(kernels PRIVATE CUDA::cudart_static)
endif()
if(CMAKE_SYSTEM_NAME STREQUAL Linux)
  # The version script hides what the C++ library's templates leave in the objects.
  target_link_options(kernels PRIVATE -Wl,--exclude-libs,ALL -Wl,-z,noexecstack -Wl,--no-undefined
                                      -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/csrc/cmake/exports.map)
  set_target_properties(kernels PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/csrc/cmake/exports.map)
endif()
hunyuan_library(kernels_static STATIC)
target_link_libraries(kernels_static INTERFACE ${static_libraries})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/hunyuan_kernels)
install(TARGETS kernels kernels_static EXPORT hunyuan_kernels)
install(DIRECTORY csrc/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/hunyuan_kernels)
install(EXPORT hunyuan_kernels FILE hunyuan_kernels-targets.cmake NAMESPACE hunyuan:: DESTINATION ${package})
set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
configure_package_config_file(csrc/cmake/hunyuan_kernels-config.cmake.in ${generated}/hunyuan_kernels-config.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(${generated}/hunyuan_kernels-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${generated}/hunyuan_kernels-config.cmake ${generated}/hunyuan_kernels-config-version.cmake
        DESTINATION ${package})
file(RELATIVE_PATH up_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(csrc/cmake/hunyuan_kernels.pc.in ${generated}/hunyuan_kernels.pc @ONLY)
install(FILES ${generated}/hunyuan_kernels.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
