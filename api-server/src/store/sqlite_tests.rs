use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::SqliteStore;
use crate::store::{Change, Event, Revision, Store, StoreError, get_as, list_as, put_as};

fn open(directory: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&directory.path().join("store.sqlite")).unwrap()
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let revision = {
        let store = open(&directory);
        store.put("a/1", &json!({"x": 1}), Revision::Absent).unwrap();
        store.put("a/2", &json!("text"), Revision::Any).unwrap();
        store.delete("a/1", Revision::Any).unwrap();
        store.put("a/3", &json!(null), Revision::Any).unwrap().revision()
    };
    let store = open(&directory);
    let keys: Vec<String> = store
        .list("a/")
        .unwrap()
        .iter()
        .map(|document| document.key().to_owned())
        .collect();
    assert_eq!(keys, ["a/2", "a/3"]);
    assert_eq!(store.get("a/3").unwrap().unwrap().revision(), revision);
    assert!(store.put("a/4", &json!(1), Revision::Any).unwrap().revision() > revision);
}

#[test]
fn revisions_never_repeat_even_when_a_document_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let first = store.put("k", &json!(1), Revision::Absent).unwrap();
    store.delete("k", Revision::Exact(first.revision())).unwrap();
    let second = store.put("k", &json!(1), Revision::Absent).unwrap();
    assert_ne!(first.etag(), second.etag());
    let refused = store.put("k", &json!(2), Revision::Exact(first.revision()));
    assert!(matches!(refused, Err(StoreError::Conflict { .. })));
}

#[test]
fn a_transaction_is_made_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.put("there", &json!(1), Revision::Any).unwrap();
    let changes = vec![
        Change::put("new", &1, Revision::Absent).unwrap(),
        Change::delete("there", Revision::Any),
        Change::put("there", &2, Revision::Exact(1)).unwrap(),
    ];
    assert!(
        store.transact(changes).is_err(),
        "the third change expects what the second one removed"
    );
    assert!(store.get("new").unwrap().is_none());
    assert_eq!(store.get("there").unwrap().unwrap().json(), "1");
    drop(store);
    assert_eq!(open(&directory).list("").unwrap().len(), 1);
}

#[test]
fn a_failed_write_changes_nothing_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.put("k", &json!(1), Revision::Any).unwrap();
    // A trigger stands for a full disk: the statement fails in the middle of the transaction.
    store
        .writer()
        .connection
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON documents WHEN NEW.key = 'bad' BEGIN SELECT RAISE(ABORT, 'full'); END")
        .unwrap();
    let changes = vec![
        Change::put("k", &2, Revision::Any).unwrap(),
        Change::put("bad", &1, Revision::Any).unwrap(),
    ];
    assert!(matches!(
        store.transact(changes),
        Err(StoreError::Database { .. })
    ));
    assert_eq!(store.get("k").unwrap().unwrap().json(), "1");
    store
        .put("k", &json!(3), Revision::Any)
        .expect("the store goes on working");
    drop(store);
    assert_eq!(open(&directory).get("k").unwrap().unwrap().json(), "3");
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory));
    let path = directory.path().join("store.sqlite");
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(
        SqliteStore::open(&path),
        Err(StoreError::TooNew { found: 99, .. })
    ));
}

#[test]
fn types_go_in_and_out_and_wrong_ones_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    put_as(&store, "map/a", &BTreeMap::from([("x", 1)]), Revision::Any).unwrap();
    let (map, _) = get_as::<BTreeMap<String, u32>>(&store, "map/a").unwrap().unwrap();
    assert_eq!(map["x"], 1);
    let error = list_as::<String>(&store, "map/").unwrap_err();
    assert!(error.to_string().contains("map/a"), "{error}");
}

#[tokio::test]
async fn watchers_hear_of_what_lies_below_their_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut watch = store.watch("a/");
    store.put("b/1", &json!(1), Revision::Any).unwrap();
    store.put("a/1", &json!(1), Revision::Any).unwrap();
    store.delete("a/1", Revision::Any).unwrap();
    assert!(matches!(watch.next().await, Some(Event::Put(document)) if document.key() == "a/1"));
    assert!(matches!(watch.next().await, Some(Event::Deleted { key, .. }) if key == "a/1"));
    drop(store);
    assert!(watch.next().await.is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    PutAbsent(u8, u8),
    Delete(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..6, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0_u8..6, any::<u8>()).prop_map(|(key, value)| Step::PutAbsent(key, value)),
        2 => (0_u8..6).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_behaves_like_a_map_that_survives(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(&directory);
        let mut model: BTreeMap<String, Value> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    let key = format!("k/{key}");
                    store.put(&key, &json!(value), Revision::Any).unwrap();
                    model.insert(key, json!(value));
                }
                Step::PutAbsent(key, value) => {
                    let key = format!("k/{key}");
                    let made = store.put(&key, &json!(value), Revision::Absent).is_ok();
                    prop_assert_eq!(made, !model.contains_key(&key));
                    model.entry(key).or_insert(json!(value));
                }
                Step::Delete(key) => {
                    let key = format!("k/{key}");
                    store.delete(&key, Revision::Any).unwrap();
                    model.remove(&key);
                }
                Step::Reopen => {
                    drop(store);
                    store = open(&directory);
                }
            }
            let found: BTreeMap<String, Value> = store
                .list("k/")
                .unwrap()
                .into_iter()
                .map(|document| (document.key().to_owned(), document.value().unwrap()))
                .collect();
            prop_assert_eq!(&found, &model);
        }
    }
}
