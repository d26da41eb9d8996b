# Third-party libraries as imported targets. scripts/bootstrap.sh installs them.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
if(METAL_CANDLE_BUILD_CLI)
  find_package(CLI11 REQUIRED)
  # Line editing of `chat`; macOS has it in its SDK.
  find_path(EDIT_INCLUDE_DIR histedit.h REQUIRED)
  find_library(EDIT_LIBRARY edit REQUIRED)
  mark_as_advanced(EDIT_INCLUDE_DIR EDIT_LIBRARY)
  add_library(edit::edit UNKNOWN IMPORTED)
  set_target_properties(edit::edit PROPERTIES IMPORTED_LOCATION ${EDIT_LIBRARY})
  target_include_directories(edit::edit SYSTEM INTERFACE ${EDIT_INCLUDE_DIR})
  # Settings of `train`.
  find_path(YAML_CPP_INCLUDE_DIR yaml-cpp/yaml.h REQUIRED)
  find_library(YAML_CPP_LIBRARY NAMES libyaml-cpp.a yaml-cpp REQUIRED)
  mark_as_advanced(YAML_CPP_INCLUDE_DIR YAML_CPP_LIBRARY)
  add_library(yaml::yaml UNKNOWN IMPORTED)
  set_target_properties(yaml::yaml PROPERTIES IMPORTED_LOCATION ${YAML_CPP_LIBRARY})
  target_include_directories(yaml::yaml SYSTEM INTERFACE ${YAML_CPP_INCLUDE_DIR})
endif()

# mc_system_library(TARGET HEADER LIBRARY): a system library; static where the system has it, so that the
# program runs on machines without it. The installed package looks for the same names (METAL_CANDLE_SYSTEM_LIBS).
set(METAL_CANDLE_SYSTEM_LIBS "")
function(mc_system_library target header library)
  string(MAKE_C_IDENTIFIER MC_${library} name)
  find_path(${name}_INCLUDE_DIR ${header} REQUIRED)
  find_library(${name}_LIBRARY NAMES lib${library}.a ${library} REQUIRED)
  mark_as_advanced(${name}_INCLUDE_DIR ${name}_LIBRARY)
  add_library(${target} UNKNOWN IMPORTED)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${${name}_LIBRARY})
  target_include_directories(${target} SYSTEM INTERFACE ${${name}_INCLUDE_DIR})
  list(APPEND METAL_CANDLE_SYSTEM_LIBS ${library})
  set(METAL_CANDLE_SYSTEM_LIBS ${METAL_CANDLE_SYSTEM_LIBS} PARENT_SCOPE)
endfunction()
mc_system_library(hwy::hwy hwy/highway.h hwy)
mc_system_library(PCRE2::8BIT pcre2.h pcre2-8)
mc_system_library(utf8proc::utf8proc utf8proc.h utf8proc)
mc_system_library(xxhash::xxhash xxhash.h xxhash)
mc_system_library(SQLite::sqlite sqlite3.h sqlite3)
find_path(HNSWLIB_INCLUDE_DIR hnswlib/hnswlib.h REQUIRED)  # headers only
mark_as_advanced(HNSWLIB_INCLUDE_DIR)
add_library(hnswlib::hnswlib INTERFACE IMPORTED)
target_include_directories(hnswlib::hnswlib SYSTEM INTERFACE ${HNSWLIB_INCLUDE_DIR})

# MLX comes from its wheel, unpacked by scripts/bootstrap.sh into a folder of the checkout.
set(METAL_CANDLE_MLX_DIR "${CMAKE_CURRENT_SOURCE_DIR}/.deps/mlx" CACHE PATH "Unpacked MLX wheel")
find_package(MLX CONFIG REQUIRED PATHS ${METAL_CANDLE_MLX_DIR} NO_DEFAULT_PATH
             PATH_SUFFIXES mlx/share/cmake/MLX)
