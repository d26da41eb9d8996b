# aarch64 with dot products, cross-compiled on Debian.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CXX_FLAGS_INIT -march=armv8.2-a+crypto+dotprod)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
