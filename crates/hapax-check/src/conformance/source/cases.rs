//! The cases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax::consume::{Message, SourceError, SourceErrorKind};
use hapax_core::BoxFuture;
use tokio::time::{Instant, timeout};

use super::{Broker, Case, Checked, Failure, LIMIT, Member, all_came, ensure, message, number, numbered};

macro_rules! cases {
    ($d:tt $($case:ident),+ $(,)?) => {
        pub(super) const CASES: &[(&str, Case)] = &[$((
            stringify!($case),
            |broker| -> BoxFuture<'static, Checked> { Box::pin($case(broker)) },
        )),+];

        /// One test of each case.
        #[doc(hidden)]
        #[macro_export]
        macro_rules! source_cases {
            ($d brokers:expr) => {
                $(#[test]
                fn $case() {
                    $crate::conformance::source::check(stringify!($case), &$d brokers);
                })+
            };
        }
    };
}

cases! {
    $
    a_message_comes_as_it_was_published,
    what_is_acknowledged_does_not_come_again,
    what_is_not_acknowledged_comes_again_and_says_so,
    retry_later_comes_again_and_not_before,
    a_dead_letter_is_exported_and_does_not_come_again,
    what_is_extended_does_not_come_to_another,
    members_share_the_messages_and_leave_none_behind,
    a_member_that_leaves_gives_back_what_it_has_not_settled,
    a_pause_gives_back_what_was_sent_ahead,
    a_dropped_receive_loses_nothing,
    no_more_come_than_were_asked_for,
    a_large_message_comes_whole,
    the_lag_is_what_is_not_done_with,
    a_restart_of_the_broker_loses_nothing,
    an_old_settle_touches_no_other_message,
    what_is_missing_is_refused_with_advice,
    a_stranger_is_refused,
    a_broker_that_is_away_is_said_to_be_away,
}

async fn a_message_comes_as_it_was_published(broker: Arc<dyn Broker>) -> Checked {
    let mut published = numbered(0..50);
    published[7].payload = Bytes::from_static(&[0, 0xff, 0x80, b'\n', 0]);
    published[8].payload = Bytes::new();
    published[9]
        .headers
        .push(("Other-Header".into(), "ü, with: signs".into()));
    broker.publish(published.clone()).await?;
    let mut member = Member::new(&*broker);
    member.hold(50).await?;
    let came: Vec<&Message> = member.hand.iter().map(|delivery| &delivery.message).collect();
    let order: Vec<_> = came
        .iter()
        .filter_map(|message| message.text("Id")?.parse::<usize>().ok())
        .collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    ensure(sorted == (0..50).collect::<Vec<_>>(), || format!("came: {order:?}"))?;
    ensure(!broker.ordered() || order == sorted, || {
        format!("not in order: {order:?}")
    })?;
    for (message, number) in came.iter().zip(order) {
        let sent = &published[number];
        ensure(message.payload == sent.payload, || {
            format!("payload of {number}: {:?}", message.payload)
        })?;
        for (name, value) in &sent.headers {
            let had = message.headers.iter().find(|(had, _)| had.eq_ignore_ascii_case(name));
            ensure(had.is_some_and(|(_, had)| had == value), || {
                format!("header {name} of {number}: {had:?}")
            })?;
        }
        ensure(!message.subject.is_empty(), || format!("no subject in {number}"))?;
    }
    let positions: std::collections::BTreeSet<_> = came.iter().filter_map(|message| message.position.clone()).collect();
    ensure(positions.is_empty() || positions.len() == 50, || {
        format!("{} positions for 50 messages", positions.len())
    })?;
    Ok(member.ack_all().await?)
}

async fn what_is_acknowledged_does_not_come_again(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..20)).await?;
    let mut member = Member::new(&*broker);
    member.hold(20).await?;
    member.ack_all().await?;
    let again = member.hear(broker.abandoned() * 2).await;
    ensure(again == 0, || format!("{again} came again to the same member"))?;
    member.source.close().await;
    let mut next = Member::new(&*broker);
    let again = next.hear(broker.abandoned() * 2).await;
    ensure(again == 0, || format!("{again} came again to the next member"))?;
    next.source.close().await;
    Ok(())
}

async fn what_is_not_acknowledged_comes_again_and_says_so(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..20)).await?;
    let mut member = Member::new(&*broker);
    member.hold(20).await?;
    // One is settled after all the others were given, so that a watermark must not take them along.
    let last = member.hand.pop();
    let acknowledged = last.as_ref().map(number).transpose()?;
    if let Some(delivery) = last {
        delivery.settle.ack().await?;
    }
    // As a process does that is killed.
    drop(member);
    let mut next = Member::new(&*broker);
    next.hold(19).await?;
    let mut counts = BTreeMap::new();
    for delivery in &next.hand {
        *counts.entry(number(delivery)?).or_insert(0) += 1;
        ensure(delivery.redelivered, || {
            format!("{:?} does not say that it came again", delivery.message)
        })?;
    }
    let missing: Vec<_> = (0..20).filter(|number| !counts.contains_key(number)).collect();
    ensure(missing.iter().all(|number| Some(*number) == acknowledged), || {
        format!("not delivered again: {missing:?}")
    })?;
    next.ack_all().await?;
    next.source.close().await;
    Ok(())
}

async fn retry_later_comes_again_and_not_before(broker: Arc<dyn Broker>) -> Checked {
    const AFTER: Duration = Duration::from_millis(1200);
    broker.publish(numbered(0..3)).await?;
    let mut member = Member::new(&*broker);
    member.hold(3).await?;
    let told = Instant::now();
    for delivery in member.hand.drain(..) {
        delivery.settle.retry_later(AFTER).await?;
    }
    member.hold(3).await?;
    let took = told.elapsed();
    // A broker's clock ticks in whole milliseconds, or so.
    ensure(took >= AFTER - Duration::from_millis(50), || {
        format!("came again after {took:?}, not {AFTER:?}")
    })?;
    ensure(took < AFTER + LIMIT / 4, || {
        format!("came again after {took:?}, not {AFTER:?}")
    })?;
    for delivery in &member.hand {
        number(delivery)?;
        ensure(delivery.redelivered, || {
            format!("{:?} does not say that it came again", delivery.message)
        })?;
    }
    for delivery in member.hand.drain(..) {
        delivery.settle.retry_later(Duration::ZERO).await?;
    }
    member.hold(3).await?;
    member.ack_all().await?;
    let again = member.hear(broker.abandoned() * 2).await;
    ensure(again == 0, || {
        format!("{again} came again after they were acknowledged")
    })
}

async fn a_dead_letter_is_exported_and_does_not_come_again(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..3)).await?;
    let mut member = Member::new(&*broker);
    member.hold(3).await?;
    let mut buried = Vec::new();
    for delivery in member.hand.drain(..) {
        if number(&delivery)? == 1 {
            delivery.settle.ack().await?;
        } else {
            buried.push(delivery.message.payload.clone());
            delivery.settle.dead("refused: it makes no sense\nat all").await?;
        }
    }
    let again = member.hear(broker.abandoned() * 2).await;
    ensure(again == 0, || format!("{again} came again"))?;
    let mut exported = broker.exported().await?;
    exported.sort();
    buried.sort();
    ensure(exported == buried, || {
        format!("exported: {exported:?}, buried: {buried:?}")
    })
}

async fn what_is_extended_does_not_come_to_another(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..2)).await?;
    let mut member = Member::new(&*broker);
    member.hold(2).await?;
    let mut other = Member::new(&*broker);
    let patience = member.hand[0].settle.patience();
    let until = Instant::now() + broker.abandoned() * 3;
    let step = patience.unwrap_or(LIMIT).min(broker.abandoned()) / 3;
    while Instant::now() < until {
        // The holder goes on receiving, as a consumer does.
        let (heard, mine) = tokio::join!(other.hear(step), member.hear(step));
        ensure(heard == 0 && mine == 0, || {
            "came to another while it was extended".to_owned()
        })?;
        for delivery in &member.hand {
            delivery.settle.extend().await;
        }
    }
    Ok(member.ack_all().await?)
}

async fn members_share_the_messages_and_leave_none_behind(broker: Arc<dyn Broker>) -> Checked {
    const ALL: usize = 300;
    let mut counts = BTreeMap::new();
    broker.publish(numbered(0..ALL / 2)).await?;
    let mut one = Member::new(&*broker);
    one.hold(10).await?;
    // The other joins while the one has messages in hand.
    let mut other = Member::new(&*broker);
    other.hear(Duration::from_millis(500)).await;
    broker.publish(numbered(ALL / 2..ALL)).await?;
    let until = Instant::now() + LIMIT;
    while counts.len() < ALL && Instant::now() < until {
        let step = Duration::from_millis(300);
        tokio::join!(one.hear(step), other.hear(step));
        for member in [&mut one, &mut other] {
            for delivery in member.hand.drain(..) {
                *counts.entry(number(&delivery)?).or_insert(0) += 1;
                // What was taken away meanwhile comes again.
                let _: Result<(), SourceError> = delivery.settle.ack().await;
            }
        }
    }
    all_came(&counts, ALL)?;
    one.source.close().await;
    other.source.close().await;
    Ok(())
}

async fn a_member_that_leaves_gives_back_what_it_has_not_settled(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..20)).await?;
    let mut member = Member::new(&*broker);
    member.hold(20).await?;
    let mut done = Vec::new();
    for delivery in member.hand.drain(..10) {
        done.push(number(&delivery)?);
        delivery.settle.ack().await?;
    }
    member.source.close().await;
    let late: Vec<_> = member.hand.drain(..).collect();
    let mut next = Member::new(&*broker);
    next.hold(10).await?;
    let mut came = Vec::new();
    for delivery in &next.hand {
        came.push(number(delivery)?);
    }
    let missing: Vec<_> = (0..20)
        .filter(|number| !done.contains(number) && !came.contains(number))
        .collect();
    ensure(missing.is_empty(), || format!("not given back: {missing:?}"))?;
    for delivery in late {
        // Whatever it says, nothing of the next member's is lost.
        let _: Result<(), SourceError> = delivery.settle.ack().await;
    }
    next.ack_all().await?;
    next.source.close().await;
    Ok(())
}

async fn a_pause_gives_back_what_was_sent_ahead(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..40)).await?;
    let mut member = Member::new(&*broker);
    let first = timeout(LIMIT, member.source.receive(1)).await;
    let first = first.map_err(|_| Failure("nothing came".to_owned()))??;
    member.hand.extend(first);
    member.source.pause().await;
    // It stays a member, and takes what comes when it goes on; what it has in hand stays its own.
    member.hold(40).await?;
    let mut counts = BTreeMap::new();
    for delivery in &member.hand {
        *counts.entry(number(delivery)?).or_insert(0) += 1;
    }
    all_came(&counts, 40)?;
    Ok(member.ack_all().await?)
}

async fn a_dropped_receive_loses_nothing(broker: Arc<dyn Broker>) -> Checked {
    const ALL: usize = 200;
    let mut member = Member::new(&*broker);
    let (mut counts, mut published) = (BTreeMap::new(), 0);
    let until = Instant::now() + LIMIT;
    while counts.len() < ALL && Instant::now() < until {
        if published < ALL {
            broker.publish(numbered(published..published + 5)).await?;
            published += 5;
        }
        // Often too short for anything.
        let patience = Duration::from_micros(200 * (counts.len() as u64 % 20 + published as u64 % 7));
        if let Ok(received) = timeout(patience, member.source.receive(7)).await {
            for delivery in received? {
                *counts.entry(number(&delivery)?).or_insert(0) += 1;
                delivery.settle.ack().await?;
            }
        }
    }
    all_came(&counts, ALL)?;
    let again: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    ensure(again.is_empty(), || format!("acknowledged, and came again: {again:?}"))
}

async fn no_more_come_than_were_asked_for(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..30)).await?;
    let mut member = Member::new(&*broker);
    let mut came = 0;
    while came < 30 {
        let received = timeout(LIMIT, member.source.receive(4)).await;
        let received = received.map_err(|_| Failure(format!("{came} of 30 came")))??;
        ensure((1..=4).contains(&received.len()), || {
            format!("{} came, 4 were asked for", received.len())
        })?;
        came += received.len();
        member.hand.extend(received);
        member.ack_all().await?;
    }
    ensure(came == 30, || format!("{came} came of 30"))
}

async fn a_large_message_comes_whole(broker: Arc<dyn Broker>) -> Checked {
    let size = broker.large();
    let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let large = Message {
        payload: payload.into(),
        ..message(0)
    };
    broker.publish(vec![large.clone(), message(1)]).await?;
    let mut member = Member::new(&*broker);
    member.hold(2).await?;
    let whole = member
        .hand
        .iter()
        .any(|delivery| delivery.message.payload == large.payload);
    ensure(whole, || format!("{size} bytes did not come whole"))?;
    Ok(member.ack_all().await?)
}

async fn the_lag_is_what_is_not_done_with(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..30)).await?;
    let mut member = Member::new(&*broker);
    while member.hand.len() < 10 {
        let received = timeout(LIMIT, member.source.receive(10 - member.hand.len())).await;
        member
            .hand
            .extend(received.map_err(|_| Failure("nothing came".to_owned()))??);
    }
    lag_becomes(&mut member, 30).await?;
    member.ack_all().await?;
    lag_becomes(&mut member, 20).await?;
    member.hold(20).await?;
    member.ack_all().await?;
    lag_becomes(&mut member, 0).await
}

/// What the broker counts may come a little later.
async fn lag_becomes(member: &mut Member, messages: u64) -> Checked {
    let until = Instant::now() + LIMIT / 2;
    loop {
        let lag = member.source.lag().await?;
        if lag.messages == messages {
            return Ok(());
        }
        ensure(Instant::now() < until, || format!("{lag:?}, not {messages}"))?;
        tokio::time::sleep(super::PAUSE).await;
    }
}

async fn a_restart_of_the_broker_loses_nothing(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..40)).await?;
    let mut member = Member::new(&*broker);
    member.hold(20).await?;
    let mut counts = BTreeMap::new();
    for delivery in member.hand.drain(..10) {
        *counts.entry(number(&delivery)?).or_insert(0) += 1;
        delivery.settle.ack().await?;
    }
    match broker.restart() {
        Some(restart) => restart.await?,
        None => return Ok(()),
    }
    for delivery in member.hand.drain(..) {
        let number = number(&delivery)?;
        // Of another connection: it may fail, and then comes again.
        if delivery.settle.ack().await.is_ok() {
            *counts.entry(number).or_insert(0) += 1;
        }
    }
    let until = Instant::now() + LIMIT;
    while counts.len() < 40 && Instant::now() < until {
        member.hear(Duration::from_millis(500)).await;
        for delivery in member.hand.drain(..) {
            *counts.entry(number(&delivery)?).or_insert(0) += 1;
            let _: Result<(), SourceError> = delivery.settle.ack().await;
        }
    }
    all_came(&counts, 40)?;
    member.source.close().await;
    Ok(())
}

async fn an_old_settle_touches_no_other_message(broker: Arc<dyn Broker>) -> Checked {
    broker.publish(numbered(0..5)).await?;
    let mut old = Member::new(&*broker);
    old.hold(5).await?;
    let old_hand: Vec<_> = old.hand.drain(..).collect();
    old.source.close().await;
    let mut new = Member::new(&*broker);
    new.hold(5).await?;
    // The old member's word comes late: to a place that somebody else has by now.
    for delivery in old_hand {
        let _: Result<(), SourceError> = delivery.settle.retry_later(Duration::ZERO).await;
    }
    new.ack_all().await?;
    new.source.close().await;
    let mut last = Member::new(&*broker);
    let again = last.hear(broker.abandoned() * 2).await;
    // A message that the old member sent back by itself may be there once more; none of them may be stuck.
    let _ = again;
    last.ack_all().await?;
    lag_becomes(&mut last, 0).await
}

async fn what_is_missing_is_refused_with_advice(broker: Arc<dyn Broker>) -> Checked {
    let Some(missing) = broker.missing() else { return Ok(()) };
    let error = refusal(missing).await?;
    ensure(error.kind() == SourceErrorKind::Refused, || {
        format!("{:?}: {error}", error.kind())
    })?;
    ensure(error.to_string().len() > 40, || format!("no advice: {error}"))
}

async fn a_stranger_is_refused(broker: Arc<dyn Broker>) -> Checked {
    let Some(stranger) = broker.stranger() else {
        return Ok(());
    };
    let label = stranger.label().to_owned();
    let error = refusal(stranger).await?;
    ensure(error.kind() == SourceErrorKind::Refused, || {
        format!("{:?}: {error}", error.kind())
    })?;
    for text in [label, error.to_string()] {
        ensure(!text.contains("wrong-password"), || {
            format!("the password is in {text:?}")
        })?;
    }
    Ok(())
}

async fn a_broker_that_is_away_is_said_to_be_away(broker: Arc<dyn Broker>) -> Checked {
    let Some(nobody) = broker.nobody() else { return Ok(()) };
    let error = refusal(nobody).await?;
    ensure(error.kind() == SourceErrorKind::Unreachable, || {
        format!("{:?}: {error}", error.kind())
    })
}

async fn refusal(mut source: Box<dyn hapax::consume::Source>) -> Checked<SourceError> {
    match timeout(LIMIT, source.receive(1)).await {
        Ok(Err(error)) => Ok(error),
        Ok(Ok(deliveries)) => Err(Failure(format!("{} messages came", deliveries.len()))),
        Err(_) => Err(Failure(format!("no error within {LIMIT:?}"))),
    }
}
