#include "embeddings/sqlite.h"

#include <sqlite3.h>

#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {

void Database::Close::operator()(sqlite3* db) const noexcept { sqlite3_close(db); }
void Database::Statement::Finalize::operator()(sqlite3_stmt* s) const noexcept { sqlite3_finalize(s); }

Database::Database(const std::filesystem::path& path, bool create) : path_(path) {
  if (!create && !std::filesystem::exists(path))
    throw Error(ErrorCode::not_found, quote_path(path) + ": there is no index; make one with index build");
  sqlite3* db = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0), nullptr);
  handle_.reset(db);
  if (code != SQLITE_OK) fail(code);
  sqlite3_busy_timeout(db, 10000);
  execute("PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL");
}

void Database::fail(int code) const {
  const ErrorCode kind = code == SQLITE_NOTADB || code == SQLITE_CORRUPT ? ErrorCode::malformed_file
                         : code == SQLITE_NOMEM                          ? ErrorCode::out_of_memory
                                                                         : ErrorCode::io_error;
  throw Error(kind,
              quote_path(path_) + ": " + (handle_ ? sqlite3_errmsg(handle_.get()) : sqlite3_errstr(code)));
}

void Database::execute(const char* sql) const {
  const int code = sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code);
}

std::int64_t Database::last_id() const { return sqlite3_last_insert_rowid(handle_.get()); }

Database::Statement Database::prepare(std::string_view sql) const {
  sqlite3_stmt* handle = nullptr;
  const int code =
      sqlite3_prepare_v2(handle_.get(), sql.data(), static_cast<int>(sql.size()), &handle, nullptr);
  if (code != SQLITE_OK) fail(code);
  Statement out;
  out.database_ = this;
  out.handle_.reset(handle);
  return out;
}

Database::Statement& Database::Statement::bind(int index, std::int64_t value) {
  sqlite3_bind_int64(handle_.get(), index, value);
  return *this;
}
Database::Statement& Database::Statement::bind(int index, std::string_view text) {
  sqlite3_bind_text64(handle_.get(), index, text.data() ? text.data() : "", text.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
  return *this;
}
Database::Statement& Database::Statement::bind(int index, std::span<const std::byte> blob) {
  sqlite3_bind_blob64(handle_.get(), index, blob.data(), blob.size(), SQLITE_STATIC);
  return *this;
}

bool Database::Statement::step() {
  const int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  sqlite3_reset(handle_.get());
  if (code != SQLITE_DONE) database_->fail(code);
  return false;
}

std::int64_t Database::Statement::integer(int column) const {
  return sqlite3_column_int64(handle_.get(), column);
}
std::string_view Database::Statement::text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), column));
  return text ? std::string_view(text, static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column)))
              : std::string_view();
}
std::span<const std::byte> Database::Statement::blob(int column) const {
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(handle_.get(), column));
  return {data, data ? static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column)) : 0};
}

void Database::Transaction::commit() {
  database_.execute("COMMIT");
  open_ = false;
}

Database::Transaction::~Transaction() {
  if (open_) sqlite3_exec(database_.handle_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

}  // namespace metal_candle
