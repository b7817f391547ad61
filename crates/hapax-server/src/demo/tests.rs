use bytes::Bytes;
use hapax_shop::{Options, Shop};

use super::tally::{Column, Tally, print};

#[tokio::test]
async fn a_success_without_an_effect_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("shop.db");
    Shop::open(&database, Options::default()).unwrap().close().await;
    let tally = Tally::default();
    tally.succeeded("k-1", &Bytes::from_static(b"a"));
    tally.succeeded("k-1", &Bytes::from_static(b"a"));
    tally.succeeded("k-2", &Bytes::from_static(b"a"));
    tally.succeeded("k-2", &Bytes::from_static(b"b"));
    tally.unknown("k-3");
    let column = Column::count(&tally, &database, 3).unwrap();
    assert_eq!(
        (column.lost, column.differing, column.unknown, column.doubles),
        (2, 1, 1, 0)
    );
    let mut text = Vec::new();
    print(&mut text, &column, &column).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("HAPPENED TWICE OR WAS LOST"), "{text}");
}
