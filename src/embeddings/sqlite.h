// SQLite with our errors: a connection and its statements. Knows no table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace metal_candle {

/// One connection; one thread at a time. Every failure is an Error naming the file: malformed_file if it is
/// no database or damaged, out_of_memory, else io_error.
class Database {
 public:
  /// Opens or, with `create`, makes the file. Throws Error(not_found) if it is not there.
  Database(const std::filesystem::path& path, bool create);

  /// A prepared statement; its values stay bound to what is passed until it is reset by the next run.
  class Statement {
   public:
    Statement& bind(int index, std::int64_t value);
    Statement& bind(int index, std::string_view text);
    Statement& bind(int index, std::span<const std::byte> blob);
    /// The next row; false at the end, after which it may be bound and run anew.
    bool step();
    /// Runs a statement that has no rows.
    void run() { step(); }
    std::int64_t integer(int column) const;
    std::string_view text(int column) const;  ///< valid until the next step
    std::span<const std::byte> blob(int column) const;

   private:
    friend class Database;
    struct Finalize {
      void operator()(sqlite3_stmt* s) const noexcept;
    };
    const Database* database_ = nullptr;
    std::unique_ptr<sqlite3_stmt, Finalize> handle_;
  };
  Statement prepare(std::string_view sql) const;
  void execute(const char* sql) const;
  std::int64_t last_id() const;

  /// Rolled back unless commit() is called.
  class Transaction {
   public:
    explicit Transaction(const Database& database) : database_(database) {
      database.execute("BEGIN IMMEDIATE");
    }
    ~Transaction();
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    void commit();

   private:
    const Database& database_;
    bool open_ = true;
  };

 private:
  [[noreturn]] void fail(int code) const;

  struct Close {
    void operator()(sqlite3* db) const noexcept;
  };
  std::filesystem::path path_;
  std::unique_ptr<sqlite3, Close> handle_;
};

}  // namespace metal_candle
