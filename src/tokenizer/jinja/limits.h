// What a template may cost. Templates come with model files and are hostile input.
#pragma once

#include <cstddef>

namespace metal_candle::jinja {

/// Exceeding any of these is an Error(invalid_argument), or (malformed_file) while parsing, that names the
/// limit. The depths fit a thread with 512 KiB of stack, the least that macOS gives.
struct Limits {
  std::size_t max_source = 1 << 20;    ///< bytes of template text
  std::size_t max_output = 64 << 20;   ///< bytes of rendered text, also of each captured block
  std::size_t max_string = 32 << 20;   ///< bytes of one string value
  std::size_t max_items = 1 << 20;     ///< elements of one list or dict
  std::size_t max_range = 100'000;     ///< length of range(); jinja2's sandbox has the same
  std::size_t max_work = 256u << 20;   ///< bytes scanned or made, plus 32 for each node evaluated
  std::size_t max_source_depth = 120;  ///< nesting of the template's own text
  std::size_t max_run_depth = 300;     ///< nested evaluations, macro calls included
  std::size_t max_value_depth = 128;   ///< nesting of lists and dicts
};

}  // namespace metal_candle::jinja
