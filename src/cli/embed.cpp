// The verb embed: lines of text to vectors, as JSON lines or a matrix file.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/embedding_flags.h"
#include "cli/flags.h"
#include "cli/matrix_file.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Each input line is a text; a line that begins with { is JSON with "text" and perhaps "prompt_name". Each output
line is {"index":i,"embedding":[...]}, in the order of the input. Every line counts, empty ones too. Millions of
lines stream through in bounded memory.

--output-type int8 scales each vector so that its largest component is 127; binary sets one bit for each positive
component, eight to a byte.

Examples:
  printf 'a cat\na dog\n' | metal-candle embed -m all-MiniLM-L6-v2
  metal-candle embed -m e5-small-v2 --prompt "query: " questions.txt
  metal-candle embed -m all-MiniLM-L6-v2 lines.txt --output vectors.npy)";

// Embedded at a time: so many lines, or fewer that have so many bytes.
constexpr std::size_t kSlice = 4096, kSliceBytes = 4 << 20;

struct Flags {
  EmbeddingFlags model;
  EmbedFlags embed;
  std::string input, output, type = "float";
};

struct Line {
  std::string text;
  std::string prompt_name;  // empty: as the flags say
};

Line read_line(std::string_view text, const std::string& where) {
  if (text.empty() || text.front() != '{') return {std::string(text), {}};
  const Json json = parse_json(text, where);
  const auto string_of = [&](const char* key) {
    const Json value = json.value(key, Json(""));
    if (!value.is_string())
      throw Error(ErrorCode::invalid_argument, where + ": \"" + key + "\" is not a string");
    return value.get<std::string>();
  };
  if (!json.contains("text"))
    throw Error(ErrorCode::invalid_argument, where + ": a JSON line needs \"text\"");
  return {string_of("text"), string_of("prompt_name")};
}

/// Vectors as one of the output types.
struct Encoded {
  DType dtype = DType::f32;
  std::size_t columns = 0;
  std::vector<std::byte> bytes;
};

template <typename T>
Encoded encoded(DType dtype, std::size_t rows, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {dtype, values.size() / rows, {bytes.begin(), bytes.end()}};
}

Encoded encode(const Embeddings& e, const std::string& type) {
  if (type == "int8") return encoded(DType::i8, e.rows, to_int8(e));
  if (type == "binary") return encoded(DType::u8, e.rows, to_binary(e));
  return encoded(DType::f32, e.rows, e.values);
}

/// Value `at` as JSON, with no more digits than its type needs.
void append_number(const Encoded& from, std::size_t at, std::string& out) {
  char digits[32];
  const auto append = [&](auto value) {
    out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  };
  if (from.dtype == DType::i8) return append(static_cast<int>(static_cast<std::int8_t>(from.bytes[at])));
  if (from.dtype == DType::u8) return append(static_cast<int>(from.bytes[at]));
  float value;
  std::memcpy(&value, &from.bytes[at * sizeof value], sizeof value);
  if (!std::isfinite(value)) {
    out += "null";  // JSON has no NaN
  } else {
    append(value);
  }
}

class Writer {
 public:
  Writer(const Flags& flags, std::size_t dimensions) : flags_(flags) {
    if (flags.output.empty()) return;
    const Encoded shape = encode({1, dimensions, std::vector<float>(dimensions)}, flags.type);
    file_.emplace(flags.output, shape.dtype, shape.columns);
  }

  void write(const Embeddings& e) {
    const Encoded out = encode(e, flags_.type);
    if (file_) return file_->write(out.bytes);
    std::string lines;
    for (std::size_t i = 0; i < e.rows; ++i) {
      lines += "{\"index\":" + std::to_string(index_++) + ",\"embedding\":[";
      for (std::size_t c = 0; c < out.columns; ++c) {
        if (c > 0) lines += ',';
        append_number(out, i * out.columns + c, lines);
      }
      lines += "]}\n";
    }
    write_result(lines);
  }

  void commit() {
    if (file_) file_->commit();
  }

 private:
  const Flags& flags_;
  std::optional<MatrixFile> file_;
  std::size_t index_ = 0;
};

/// Embeds lines whose prompts differ, each group at once, and puts the vectors back in order.
Embeddings embed(const EmbeddingModel& model, const std::vector<Line>& lines, const EmbedOptions& options) {
  std::map<std::string, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < lines.size(); ++i) groups[lines[i].prompt_name].push_back(i);
  Embeddings out;
  for (const auto& [name, members] : groups) {
    EmbedOptions own = options;
    if (!name.empty()) {
      own.prompt_name = name;
      own.prompt.reset();
    }
    std::vector<std::string_view> texts;
    for (const std::size_t i : members) texts.push_back(lines[i].text);
    const Embeddings part = model.embed(std::span<const std::string_view>(texts), own);
    out.rows = lines.size();
    out.columns = part.columns;
    out.values.resize(out.rows * out.columns);
    for (std::size_t j = 0; j < members.size(); ++j)
      std::ranges::copy(part.row(j),
                        out.values.begin() + static_cast<std::ptrdiff_t>(members[j] * out.columns));
  }
  return out;
}

void run(const Flags& flags) {
  const std::shared_ptr<EmbeddingModel> model = flags.model.load();
  const EmbedOptions options = flags.embed.resolve();
  const std::string source = flags.input.empty() || flags.input == "-" ? "standard input" : flags.input;
  Writer writer(flags, options.dimensions == 0 ? model->dimensions() : options.dimensions);
  const std::uint64_t total = input_bytes(flags.input);
  ProgressBar bar("embedding");
  std::vector<Line> lines;
  std::uint64_t seen = 0;
  std::size_t count = 0, waiting = 0;
  const auto flush = [&] {
    if (lines.empty()) return;
    writer.write(embed(*model, lines, options));
    lines.clear();
    waiting = 0;
    if (total > 0) bar.show(static_cast<double>(seen) / static_cast<double>(total));
  };
  for_each_line(flags.input, [&](std::string_view text, std::size_t number) {
    lines.push_back(read_line(text, source + ", line " + std::to_string(number)));
    seen += text.size() + 1;
    waiting += text.size();
    ++count;
    if (lines.size() == kSlice || waiting >= kSliceBytes) flush();
  });
  if (count == 0) throw Error(ErrorCode::invalid_argument, source + ": there is no line to embed");
  flush();
  writer.commit();
}

}  // namespace

void add_embed(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* app = program.add_subcommand("embed", "Turn lines of text into vectors");
  app->footer(kFooter);
  app->add_option("FILE", flags->input, "Input (default: standard input)")->type_name("");
  app->add_option("-o,--output", flags->output, "Write a .npy or .safetensors file instead of JSON lines")
      ->type_name("FILE");
  app->add_option("--output-type", flags->type, "What a component is written as (default: float)")
      ->check(CLI::IsMember({"float", "int8", "binary"}).description(""))
      ->type_name("float|int8|binary");
  flags->embed.add_to(*app);
  flags->model.add_to(*app);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
