use std::time::Duration;

use super::*;

const BOUNDS: Bounds = Bounds {
    window: 100,
    buffer: 10,
    bytes: 1_000,
    parked: 4,
};

fn place(partition: i32) -> Place {
    ("orders".into(), partition)
}

/// A state with one partition, whose log ends there.
fn assigned(end: Option<i64>) -> State {
    let mut state = State::new(BOUNDS);
    state.assign([(place(0), end)]);
    state
}

fn push(state: &mut State, offset: i64) -> bool {
    state.push(&place(0), offset, Message::new("orders", vec![b'x'; 10]))
}

fn take(state: &mut State, most: usize) -> Vec<(Held, bool)> {
    state.take(most, Instant::now())
}

fn offsets(taken: &[(Held, bool)]) -> Vec<i64> {
    taken.iter().map(|(held, _)| held.offset).collect()
}

fn commit(state: &State) -> Option<i64> {
    let commits = state.commits();
    commits.first().map(|commit| commit.offset)
}

#[test]
fn what_was_there_at_the_assignment_may_have_been_given_before_within_the_window() {
    let mut state = assigned(Some(7));
    (5..9).for_each(|offset| assert!(push(&mut state, offset)));
    let doubts: Vec<_> = take(&mut state, 9).iter().map(|(_, doubtful)| *doubtful).collect();
    assert_eq!(doubts, [true, true, false, false]);

    for end in [None, Some(1_000)] {
        let mut state = assigned(end);
        push(&mut state, 5);
        push(&mut state, 104);
        push(&mut state, 105);
        let doubts: Vec<_> = take(&mut state, 9).iter().map(|(_, doubtful)| *doubtful).collect();
        assert_eq!(doubts, [true, true, false], "{end:?}");
    }
}

#[test]
fn a_word_from_another_assignment_moves_nothing() {
    let mut state = assigned(None);
    push(&mut state, 0);
    let (old, _) = take(&mut state, 1).remove(0);
    assert_eq!(state.revoke(&[place(0)]), []);
    assert!(!state.done(&old), "it is nobody's");
    state.assign([(place(0), None)]);
    push(&mut state, 0);
    push(&mut state, 1);
    assert!(!state.done(&old));
    assert!(!state.park(old, Instant::now()));
    assert_eq!(commit(&state), None);
    assert_eq!(
        offsets(&take(&mut state, 9)),
        [0, 1],
        "nothing was given twice or left out"
    );
}

#[test]
fn a_revoked_partition_takes_its_messages_along_and_leaves_what_is_to_be_committed() {
    let mut state = assigned(None);
    state.assign([(place(1), None)]);
    for offset in 0..3 {
        push(&mut state, offset);
    }
    let message = Message::new("orders", "other");
    state.push(&place(1), 70, message);
    let mut taken = take(&mut state, 2);
    assert!(state.done(&taken.remove(0).0));
    assert!(state.park(taken.remove(0).0, Instant::now()));
    let commits: Vec<_> = state.revoke(&[place(0)]).iter().map(|commit| commit.offset).collect();
    assert_eq!(commits, [1]);
    assert_eq!(offsets(&take(&mut state, 9)), [70]);
    assert_eq!((state.bytes, state.due()), (0, None));
}

#[test]
fn what_is_parked_comes_again_when_it_is_due_and_is_not_committed() {
    let mut state = assigned(Some(0));
    push(&mut state, 0);
    push(&mut state, 1);
    let taken = take(&mut state, 2);
    let (now, later) = (Instant::now(), Duration::from_secs(9));
    assert!(state.park(taken[0].0.clone(), now + later));
    assert!(state.done(&taken[1].0));
    assert_eq!((commit(&state), state.due()), (None, Some(now + later)));
    assert!(state.take(9, now).is_empty());
    let again = state.take(9, now + later);
    assert_eq!((offsets(&again), again[0].1), (vec![0], true));
    assert!(state.done(&again[0].0));
    assert_eq!(commit(&state), Some(2));
}

#[test]
fn a_commit_of_another_assignment_confirms_nothing() {
    let mut state = assigned(None);
    push(&mut state, 0);
    let taken = take(&mut state, 1);
    state.done(&taken[0].0);
    let old = state.commits();
    assert_eq!(old.len(), 1);
    state.revoke(&[place(0)]);
    state.assign([(place(0), None)]);
    push(&mut state, 0);
    let taken = take(&mut state, 1);
    state.done(&taken[0].0);
    state.committed(&old);
    assert_eq!(commit(&state), Some(1), "by this one");
    state.committed(&state.commits());
    assert_eq!(commit(&state), None);
}

#[test]
fn partitions_are_paused_when_too_much_is_kept_and_resumed_at_half() {
    let mut state = assigned(None);
    let all: Vec<_> = (0..10).map(|offset| push(&mut state, offset)).collect();
    assert_eq!(all.iter().position(|more| !more), Some(9));
    assert!(state.could_wait());
    assert_eq!(state.wishes().pause, [place(0)]);
    assert!(!state.could_wait());
    assert_eq!(state.wishes(), Wishes::default());
    take(&mut state, 4);
    assert_eq!(state.wishes(), Wishes::default());
    take(&mut state, 1);
    assert_eq!(state.wishes().resume, [place(0)]);
}

#[test]
fn large_messages_fill_the_buffer_before_there_are_many() {
    let mut state = assigned(None);
    assert!(state.push(&place(0), 0, Message::new("orders", vec![0; 999])));
    assert!(!state.push(&place(0), 1, Message::new("orders", vec![0; 1])));
    assert_eq!(state.wishes().pause, [place(0)]);
    take(&mut state, 1);
    assert_eq!(state.wishes().resume, [place(0)]);
}

#[test]
fn a_partition_waits_for_its_oldest_message_at_the_end_of_its_window() {
    let mut state = assigned(None);
    state.assign([(place(1), None)]);
    push(&mut state, 0);
    let first = take(&mut state, 1).remove(0).0;
    for offset in 1..99 {
        push(&mut state, offset);
        let (held, _) = take(&mut state, 1).remove(0);
        state.done(&held);
    }
    assert_eq!(state.wishes(), Wishes::default());
    assert!(!push(&mut state, 99));
    assert_eq!(state.wishes().pause, [place(0)], "the other goes on");
    let last = take(&mut state, 1).remove(0).0;
    state.done(&last);
    assert!(!state.presses(), "no commit could move it");
    state.done(&first);
    assert!(state.presses());
    assert_eq!(
        state.wishes(),
        Wishes::default(),
        "it counts from what the broker has confirmed"
    );
    assert_eq!(commit(&state), Some(100));
    state.committed(&state.commits());
    assert_eq!(state.wishes().resume, [place(0)]);
}

#[test]
fn a_partition_with_many_that_wait_is_paused() {
    let mut state = assigned(None);
    (0..4).for_each(|offset| assert!(push(&mut state, offset)));
    let now = Instant::now();
    for (held, _) in take(&mut state, 4) {
        state.park(held, now);
    }
    assert_eq!(state.wishes().pause, [place(0)]);
    let again = state.take(2, now);
    assert_eq!(state.wishes().resume, [place(0)]);
    assert_eq!(again.len(), 2);
}

#[test]
fn nothing_is_taken_while_nothing_is_wanted() {
    let mut state = assigned(None);
    state.wanted = false;
    assert_eq!(state.wishes().pause, [place(0)]);
    state.wanted = true;
    assert_eq!(state.wishes().resume, [place(0)]);
}

#[test]
fn a_log_that_goes_back_is_given_again_from_there() {
    let mut state = assigned(Some(0));
    for offset in [500, 501, 502] {
        push(&mut state, offset);
    }
    let old = take(&mut state, 1).remove(0).0;
    assert!(push(&mut state, 3));
    assert!(!state.done(&old), "its offset may be another message's by now");
    let taken = take(&mut state, 9);
    assert_eq!((offsets(&taken), taken[0].1), (vec![3], true));
    assert!(state.done(&taken[0].0));
    assert_eq!(commit(&state), Some(4));
    push(&mut state, 502);
    push(&mut state, 503);
    let doubts: Vec<_> = take(&mut state, 9).iter().map(|(_, doubtful)| *doubtful).collect();
    assert_eq!(doubts, [true, false]);
}

#[test]
fn nothing_is_taken_of_a_partition_that_is_not_ours() {
    let mut state = assigned(None);
    state.push(&place(5), 0, Message::new("orders", ""));
    assert!(take(&mut state, 1).is_empty());
}
