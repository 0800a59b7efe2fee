//! [`SqliteStore`]: the store of a single host.
//!
//! One connection, one writer at a time, WAL with `synchronous=FULL`: a change that was acknowledged survives a power
//! cut. A transaction is checked against memory, written to disk, applied to memory and told to watchers, all under
//! the writer's lock; readers never take that lock.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::broadcast;

use super::memory::{Memory, Written};
use super::{Change, Document, Event, Result, Store, StoreError, Watch};

/// Version of the tables below. A later version migrates earlier ones; an earlier one refuses later files.
const SCHEMA_VERSION: i64 = 1;

/// Changes that a slow watcher may lag behind before it is told to read everything again.
const WATCH_BACKLOG: usize = 1024;

/// Documents in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Mutex<Writer>,
    memory: Memory,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    revision: u64,
}

fn database(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { doing, source }
}

impl SqliteStore {
    /// Opens the file, making it when it is missing, and reads all of it.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).map_err(database("opening the file"))?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(database("configuring"))?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
            .and_then(|()| connection.pragma_update(None, "foreign_keys", true))
            .map_err(database("configuring"))?;
        migrate(&connection)?;
        let revision: i64 = connection
            .query_row("SELECT revision FROM counter", [], |row| row.get(0))
            .map_err(database("reading the revision"))?;
        let memory = Memory::load(read_all(&connection)?.into_iter());
        Ok(Self {
            writer: Mutex::new(Writer {
                connection,
                revision: u64::try_from(revision).unwrap_or_default(),
            }),
            memory,
            events: broadcast::channel(WATCH_BACKLOG).0,
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while writing leaves at worst an open transaction, which the next one's BEGIN reports.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, changes: Vec<Change>) -> Result<u64> {
        let mut writer = self.writer();
        self.memory.check(&changes)?;
        let revision = writer.revision + 1;
        let written: Vec<Written> = changes
            .into_iter()
            .map(|change| match change {
                Change::Put { key, value, .. } => {
                    Written::Put(Document::new(key, value.to_string(), revision))
                }
                Change::Delete { key, .. } => Written::Deleted(key),
            })
            .collect();
        write(&mut writer.connection, &written, revision).map_err(database("writing"))?;
        writer.revision = revision;
        self.memory.apply(written.iter().cloned());
        if self.events.receiver_count() > 0 {
            for change in written {
                let _ = self.events.send(match change {
                    Written::Put(document) => Event::Put(document),
                    Written::Deleted(key) => Event::Deleted { key, revision },
                });
            }
        }
        Ok(revision)
    }
}

impl Store for SqliteStore {
    fn get(&self, key: &str) -> Result<Option<Document>> {
        Ok(self.memory.get(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Document>> {
        Ok(self.memory.list(prefix))
    }

    fn transact(&self, changes: Vec<Change>) -> Result<u64> {
        blocking(|| self.commit(changes))
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(prefix, self.events.subscribe())
    }
}

/// Runs something that waits for the disk. On a worker of the multi-threaded runtime the worker's other tasks are
/// handed to another thread first, so that one slow disk does not hold up every request.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

fn write(connection: &mut Connection, written: &[Written], revision: u64) -> rusqlite::Result<()> {
    let stored = i64::try_from(revision).unwrap_or(i64::MAX);
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for change in written {
        match change {
            Written::Put(document) => {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO documents (key, value, revision) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![document.key(), document.json(), stored])?;
            }
            Written::Deleted(key) => {
                transaction
                    .prepare_cached("DELETE FROM documents WHERE key = ?1")?
                    .execute(params![key])?;
            }
        }
    }
    transaction
        .prepare_cached("UPDATE counter SET revision = ?1")?
        .execute(params![stored])?;
    transaction.commit()
}

fn read_all(connection: &Connection) -> Result<Vec<Document>> {
    let mut statement = connection
        .prepare("SELECT key, value, revision FROM documents")
        .map_err(database("reading documents"))?;
    let rows = statement
        .query_map([], |row| {
            let (key, value, revision): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Document::new(
                key,
                value,
                u64::try_from(revision).unwrap_or_default(),
            ))
        })
        .map_err(database("reading documents"))?;
    rows.collect::<rusqlite::Result<_>>()
        .map_err(database("reading documents"))
}

fn migrate(connection: &Connection) -> Result<()> {
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(database("reading the schema version"))?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::TooNew {
            found,
            known: SCHEMA_VERSION,
        });
    }
    if found == 0 {
        connection
            .execute_batch(
                "BEGIN IMMEDIATE;
                 CREATE TABLE documents (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
                 CREATE TABLE counter (revision INTEGER NOT NULL);
                 INSERT INTO counter (revision) VALUES (0);
                 PRAGMA user_version = 1;
                 COMMIT;",
            )
            .map_err(database("making the tables"))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
