//! Stored requests that are encrypted, and their keys.

use hapax::core::{Amend, Amendment, Audit, DeadReason, Input, State, StateName, Store};
use hapax::http::InputSeal;

use super::door::{Door, Happened, ask_later, by_path};
use super::world::named;

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn door(seal: Option<InputSeal>) -> Door {
    let route = named("r").respond_async(true).input_seal(seal).build().unwrap();
    Door::new(route, by_path)
}

/// What is stored of a request with a secret in its body.
async fn stored(door: &Door) -> Input {
    assert_eq!(door.send(ask_later("/201", "a", "s3cret")).await.status, 202);
    door.record("a").await.unwrap().input.unwrap()
}

fn shows(input: &Input) -> bool {
    input.0.windows(6).any(|bytes| bytes == b"s3cret")
}

/// The same records behind another configuration.
fn reopened(door: Door, seal: Option<InputSeal>) -> Door {
    let route = named("r").respond_async(true).input_seal(seal).build().unwrap();
    door.reopened(route)
}

#[tokio::test(start_paused = true)]
async fn a_stored_request_is_sealed_and_opens_after_a_rotation() {
    let door = door(Some(InputSeal::new(&OLD)));
    assert!(!shows(&stored(&door).await));
    let door = reopened(door, Some(InputSeal::new(&NEW).also(&OLD)));
    door.run_until(Happened::Finished(StateName::Done)).await;
    assert!(door.send(ask_later("/201", "a", "s3cret")).await.replays("call 1"));
}

#[tokio::test(start_paused = true)]
async fn a_plain_one_stays_readable_once_there_are_keys() {
    let door = door(None);
    assert!(shows(&stored(&door).await));
    let door = reopened(door, Some(InputSeal::new(&NEW)));
    door.run_until(Happened::Finished(StateName::Done)).await;
    assert_eq!(door.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_its_key_it_dies_and_lives_again_with_it() {
    let seal = InputSeal::new(&OLD);
    let id = seal.key_ids().next().unwrap();
    let door = door(Some(seal.clone()));
    let input = stored(&door).await;
    for seal in [None, Some(InputSeal::new(&NEW))] {
        let door = reopened(door.clone(), seal);
        door.run_until(Happened::Finished(StateName::Dead)).await;
        let record = door.record("a").await.unwrap();
        assert!(matches!(
            record.state,
            State::Dead {
                reason: DeadReason::Refused,
                ..
            }
        ));
        let error = record.last_error.unwrap();
        assert!(
            error.as_str().contains(&format!("sealed with the key {id}")),
            "{}",
            error.as_str()
        );
        assert_eq!(
            (record.input.as_ref(), door.calls()),
            (Some(&input), 0),
            "nothing is lost"
        );
        redrive(&door, record.operation.id()).await;
    }
    let door = reopened(door, Some(seal));
    door.run_until(Happened::Finished(StateName::Done)).await;
    assert_eq!(door.calls(), 1);
}

async fn redrive(door: &Door, id: hapax::core::OperationId) {
    let amendment = Amendment {
        amend: Amend::Redrive,
        fence: None,
        audit: Audit {
            actor: "test".into(),
            reason: "the key is back".into(),
        },
    };
    let amended = door.store.amend(id, amendment).await.unwrap();
    assert!(matches!(amended, hapax::core::Amended::Became(_)), "{amended:?}");
}
