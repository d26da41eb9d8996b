# Instruction sets of the kernels that have a file of their own. target.cpp asks the CPU before any of them runs.
# Never -march=native: a program built here runs on older machines.
set(simd ${CMAKE_SOURCE_DIR}/src/kernels/simd)
set(avx2 -mavx2 -mfma -mf16c)
set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND avx512 -Wno-maybe-uninitialized -Wno-uninitialized)  # GCC 12's own AVX-512 header trips them
endif()

# Products and sums stay as written: dequantization is bit-exact, and activations are the same on every target.
file(GLOB simd_sources ${simd}/linear*.cpp ${simd}/dequantize*.cpp ${simd}/pack*.cpp ${simd}/quantize*.cpp)
set_source_files_properties(${simd_sources} PROPERTIES COMPILE_OPTIONS -ffp-contract=off)

# mc_simd_source(ARCHITECTURE FILE flags...): compiles FILE only for that architecture.
function(mc_simd_source architecture file)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "${architecture}")
    set_source_files_properties(${simd}/${file} PROPERTIES HEADER_FILE_ONLY ON)
  endif()
  set_source_files_properties(${simd}/${file} PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;${ARGN}")
endfunction()

if(METAL_CANDLE_SANITIZE)
  # Instrumented, each of these takes minutes to compile. linear_scalar.cpp keeps the instrumentation for the same
  # layouts, and simd_linear_guard_test.cpp holds every target to its operands with guard pages.
  list(APPEND avx2 -fno-sanitize=all)
  list(APPEND avx512 -fno-sanitize=all)
endif()
mc_simd_source("x86_64|AMD64" linear_avx2.cpp ${avx2})
mc_simd_source("x86_64|AMD64" linear_avx2_vnni.cpp ${avx2} -mavxvnni)
mc_simd_source("x86_64|AMD64" linear_avx512.cpp ${avx512})
mc_simd_source("x86_64|AMD64" linear_avx512_vnni.cpp ${avx512} -mavx512vnni)
mc_simd_source("x86_64|AMD64" linear_avx512_int8.cpp ${avx512} -mavx512vnni)
mc_simd_source("x86_64|AMD64" linear_avx512_bf16.cpp ${avx512} -mavx512bf16)
mc_simd_source("x86_64|AMD64" attention_avx512_bf16.cpp ${avx512} -mavx512bf16)
mc_simd_source("x86_64|AMD64" attention_avx512_fp16.cpp ${avx512} -mavx512fp16)
mc_simd_source("x86_64|AMD64" linear_avx512_fp16.cpp ${avx512} -mavx512fp16)
mc_simd_source("x86_64|AMD64" lora_avx512_bf16.cpp ${avx512} -mavx512bf16)
mc_simd_source("x86_64|AMD64" lora_avx512_fp16.cpp ${avx512} -mavx512fp16)
mc_simd_source("x86_64|AMD64" gemm_avx512_fp16.cpp ${avx512} -mavx512fp16)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(${simd}/gemm_avx512_bf16.cpp PROPERTIES HEADER_FILE_ONLY ON)  # needs no flags
endif()
mc_simd_source("x86_64|AMD64" content_hash_avx2.cpp ${avx2})
mc_simd_source("aarch64|arm64" linear_neon.cpp)  # the whole build assumes dot products there (docs/kernels.md)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # One Highway target, NEON: its SVE vectors have no size, so they cannot stand in arrays or captures.
  file(GLOB simd_sources ${simd}/*.cpp)
  set_source_files_properties(${simd_sources} PROPERTIES COMPILE_DEFINITIONS HWY_COMPILE_ONLY_STATIC)
endif()
