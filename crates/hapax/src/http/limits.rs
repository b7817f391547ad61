//! What all protected requests together may take.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Held;
use super::problem::{Details, Problem};

/// What all protected requests of a layer together may take. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Protected requests that are being answered or whose run goes on without a client (32,768).
    pub in_flight: usize,
    /// Memory for their bodies, in bytes (256 MiB). Bodies of up to 16 KiB do not count.
    pub request_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 32 * 1024,
            request_bytes: 256 << 20,
        }
    }
}

/// What is left of the limits.
pub(super) struct Budget {
    in_flight: Arc<Semaphore>,
    /// In units of [`UNIT`].
    memory: Arc<Semaphore>,
}

const UNIT: usize = 16 << 10;

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self {
            in_flight: semaphore(limits.in_flight),
            memory: semaphore(limits.request_bytes / UNIT),
        }
    }

    /// A place among the requests in flight, given back when dropped.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Details> {
        Arc::clone(&self.in_flight)
            .try_acquire_owned()
            .map_err(|_| overloaded("in_flight"))
    }

    /// Memory for a body that comes in.
    pub(super) fn body(&self) -> Incoming<'_> {
        Incoming {
            budget: self,
            held: Held::default(),
            permit: None,
        }
    }
}

fn overloaded(limit: &str) -> Details {
    let detail = format!(
        "The server has as many protected requests at a time as it may have ({limit}), and nothing ran. Send the same \
         request again later, with the same key."
    );
    Details::new(Problem::Overloaded, detail)
        .with("limit", limit)
        .retry_after(Duration::from_secs(1))
}

/// A body that comes in, within the memory that there is.
pub(super) struct Incoming<'a> {
    budget: &'a Budget,
    held: Held,
    permit: Option<OwnedSemaphorePermit>,
}

impl Incoming<'_> {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes more of it.
    pub(super) fn push(&mut self, data: Bytes) -> Result<(), Details> {
        self.held.push(data);
        let needed = if self.held.len() > UNIT {
            self.held.len().div_ceil(UNIT)
        } else {
            0
        };
        let granted = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if needed > granted {
            let more = u32::try_from(needed - granted).map_err(|_| overloaded("request_bytes"))?;
            let more = Arc::clone(&self.budget.memory)
                .try_acquire_many_owned(more)
                .map_err(|_| overloaded("request_bytes"))?;
            match &mut self.permit {
                Some(permit) => permit.merge(more),
                None => self.permit = Some(more),
            }
        }
        Ok(())
    }

    /// All of it. Its memory counts until the last clone is dropped.
    pub(super) fn bytes(self) -> Bytes {
        let bytes = self.held.bytes();
        match self.permit {
            Some(permit) => Bytes::from_owner(Counted { bytes, _permit: permit }),
            None => bytes,
        }
    }
}

struct Counted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(budget: &Budget, sizes: &[usize]) -> Result<Bytes, Problem> {
        let mut incoming = budget.body();
        for size in sizes {
            incoming
                .push(vec![b'x'; *size].into())
                .map_err(|details| details.problem())?;
        }
        assert_eq!(incoming.len(), sizes.iter().sum::<usize>());
        Ok(incoming.bytes())
    }

    #[test]
    fn memory_counts_until_the_last_clone_of_a_body_is_gone() {
        let budget = Budget::new(&Limits {
            request_bytes: 3 * UNIT,
            ..Limits::default()
        });
        let small = read(&budget, &[UNIT]).unwrap();
        let two = read(&budget, &[UNIT, 1]).unwrap();
        assert_eq!(budget.memory.available_permits(), 1, "small ones do not count");
        assert_eq!((small.len(), two.len()), (UNIT, UNIT + 1));
        assert_eq!(read(&budget, &[UNIT, UNIT]), Err(Problem::Overloaded));
        assert_eq!(budget.memory.available_permits(), 1, "given back");
        let clone = two.slice(..1);
        drop(two);
        assert_eq!(read(&budget, &[UNIT + 1]), Err(Problem::Overloaded));
        drop(clone);
        assert!(read(&budget, &[1, UNIT, UNIT, UNIT - 1]).is_ok());
        assert_eq!(budget.memory.available_permits(), 3);
    }

    #[test]
    fn places_are_given_back() {
        let budget = Budget::new(&Limits {
            in_flight: 1,
            ..Limits::default()
        });
        let place = budget.enter().unwrap();
        assert_eq!(budget.enter().unwrap_err().problem(), Problem::Overloaded);
        drop(place);
        assert!(budget.enter().is_ok());
    }
}
