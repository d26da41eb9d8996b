// Uses the installed library: an error by its code, the version.
#include <metal_candle/error.h>
#include <metal_candle/version.h>

#include <iostream>

int main() {
  namespace mc = metal_candle;
  try {
    throw mc::Error(mc::ErrorCode::not_found, "no such model");
  } catch (const mc::Error& error) {
    std::cout << "metal_candle " << mc::kVersion << ": " << mc::to_string(error.code()) << "\n";
    return mc::to_string(error.code()) == "not_found" ? 0 : 1;
  }
}
