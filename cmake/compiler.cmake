# How our code is compiled: warnings, sanitizers, ccache.
option(METAL_CANDLE_WERROR "Treat warnings in our code as errors" ${PROJECT_IS_TOP_LEVEL})
set(METAL_CANDLE_SANITIZE "" CACHE STRING "Value of -fsanitize=, e.g. address,undefined or thread")

set(MC_WARNINGS -Wall -Wextra)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND MC_WARNINGS -Wno-restrict)  # false alarms on std::string's operator+ (GCC bug 105651)
  # and on an empty std::optional of a class with a destructor (GCC bug 80635)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/tokenizer/jinja/*.cpp)
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS -Wno-maybe-uninitialized)
endif()
if(METAL_CANDLE_WERROR)
  list(APPEND MC_WARNINGS -Werror)
endif()

if(METAL_CANDLE_SANITIZE)
  # vptr checks need the typeinfo of MLX's classes, which libmlx does not all export.
  add_compile_options(-fsanitize=${METAL_CANDLE_SANITIZE} -fno-sanitize-recover=all -fno-sanitize=vptr
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${METAL_CANDLE_SANITIZE})
  # hnswlib prefetches by a neighbour number that it reads past the end of a list: 4 bytes within the allocation's
  # rounding, and all of hnswlib is in this file.
  set_source_files_properties(src/embeddings/vector_graph.cpp PROPERTIES COMPILE_OPTIONS -fno-sanitize=address)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
