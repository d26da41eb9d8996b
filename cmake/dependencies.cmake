# Third-party libraries as imported targets. scripts/bootstrap.sh installs them.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
add_library(hwy::hwy ALIAS PkgConfig::HWY)
add_library(PCRE2::8BIT ALIAS PkgConfig::PCRE2)
add_library(utf8proc::utf8proc ALIAS PkgConfig::UTF8PROC)

# MLX comes from its wheel, unpacked by scripts/bootstrap.sh into a folder of the checkout.
set(METAL_CANDLE_MLX_DIR "${CMAKE_SOURCE_DIR}/.deps/mlx" CACHE PATH "Unpacked MLX wheel")
find_package(MLX CONFIG REQUIRED PATHS ${METAL_CANDLE_MLX_DIR} NO_DEFAULT_PATH
             PATH_SUFFIXES mlx/share/cmake/MLX)
