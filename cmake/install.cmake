# Installation: headers, the static archive, the program, and libmlx beside them in its wheel's own layout
# (libmlx finds its BLAS through $ORIGIN/../../mlx_cpu.libs). Every path is relative: the prefix may move.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(MC_PRIVATE_DIR ${CMAKE_INSTALL_LIBDIR}/metal_candle)  # what is ours but not for the linker's path
set(MC_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/metal_candle)

if(NOT METAL_CANDLE_ASYNC)
  set(MC_EXCLUDE_HEADERS PATTERN async.h EXCLUDE)
endif()
install(DIRECTORY include/metal_candle DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} ${MC_EXCLUDE_HEADERS})
install(TARGETS metal_candle ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/metal_candle)

get_target_property(mlx_library mlx IMPORTED_LOCATION_RELEASE)
cmake_path(GET mlx_library PARENT_PATH mlx_lib_dir)
cmake_path(GET mlx_library FILENAME mlx_library_name)
install(DIRECTORY ${mlx_lib_dir}/ DESTINATION ${MC_PRIVATE_DIR}/mlx/lib
        FILES_MATCHING PATTERN "*.so" PATTERN "*.dylib" PATTERN "*.metallib" PATTERN cmake EXCLUDE)
if(EXISTS ${METAL_CANDLE_MLX_DIR}/mlx_cpu.libs)
  install(DIRECTORY ${METAL_CANDLE_MLX_DIR}/mlx_cpu.libs DESTINATION ${MC_PRIVATE_DIR})
endif()
file(GLOB mlx_licenses ${METAL_CANDLE_MLX_DIR}/*.dist-info/licenses)
if(mlx_licenses)
  install(DIRECTORY ${mlx_licenses}/ DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/metal_candle/mlx)
endif()

if(TARGET metal-candle)
  if(APPLE)
    set(origin @loader_path)
  else()
    set(origin $ORIGIN)
  endif()
  cmake_path(RELATIVE_PATH MC_PRIVATE_DIR BASE_DIRECTORY ${CMAKE_INSTALL_BINDIR} OUTPUT_VARIABLE to_private)
  set_target_properties(metal-candle PROPERTIES INSTALL_RPATH ${origin}/${to_private}/mlx/lib)
  install(TARGETS metal-candle RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

configure_package_config_file(
  cmake/metal_candleConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/metal_candleConfig.cmake
  INSTALL_DESTINATION ${MC_CONFIG_DIR}
  PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR MC_PRIVATE_DIR)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/metal_candleConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/metal_candleConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/metal_candleConfigVersion.cmake
        DESTINATION ${MC_CONFIG_DIR})
