//! The body of an answer on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// The body of an answer: the door's own, captured, or the inner service's.
#[derive(Debug)]
pub struct Body<B>(Form<B>);

#[derive(Debug)]
enum Form<B> {
    Full {
        data: Bytes,
        trailers: Option<Box<HeaderMap>>,
    },
    Passed(B),
    Streamed {
        start: [Bytes; 2],
        rest: B,
    },
}

impl<B> Body<B> {
    /// The inner service's own body, untouched.
    #[must_use]
    pub fn passed(body: B) -> Self {
        Self(Form::Passed(body))
    }

    /// A body that was captured whole.
    pub(super) fn captured(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let trailers = trailers.map(Box::new);
        Self(Form::Full { data, trailers })
    }

    /// What was captured of a body, then what is still to come.
    pub(super) fn streamed(start: [Bytes; 2], rest: B) -> Self {
        Self(Form::Streamed { start, rest })
    }
}

impl<B> From<Bytes> for Body<B> {
    fn from(data: Bytes) -> Self {
        Self::captured(data, None)
    }
}

impl<B> HttpBody for Body<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.get_mut().0 {
            Form::Full { data, trailers } => {
                if !data.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))));
                }
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
            }
            Form::Passed(body) => Pin::new(body).poll_frame(cx),
            Form::Streamed { start, rest } => match start.iter_mut().find(|part| !part.is_empty()) {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(part))))),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Form::Full { data, trailers } => data.is_empty() && trailers.is_none(),
            Form::Passed(body) => body.is_end_stream(),
            Form::Streamed { start, rest } => start.iter().all(Bytes::is_empty) && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Form::Full { data, .. } => SizeHint::with_exact(data.len() as u64),
            Form::Passed(body) => body.size_hint(),
            Form::Streamed { start, rest } => {
                let held = start.iter().map(|part| part.len() as u64).sum::<u64>();
                let hint = rest.size_hint();
                let mut sum = SizeHint::new();
                sum.set_lower(hint.lower().saturating_add(held));
                if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(held)) {
                    sum.set_upper(upper);
                }
                sum
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn what_was_captured_comes_first() {
        let start = [Bytes::from_static(b"ab"), Bytes::from_static(b"cd")];
        let body = Body::streamed(start, Full::new(Bytes::from_static(b"ef")));
        assert_eq!(body.size_hint().exact(), Some(6));
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
        let nothing = Body::streamed([Bytes::new(), Bytes::new()], Full::new(Bytes::new()));
        assert!(nothing.is_end_stream());
    }

    #[tokio::test]
    async fn trailers_follow_the_data() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
        let body = Body::<Full<Bytes>>::captured(Bytes::from_static(b"ab"), Some(trailers.clone()));
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "ab");
        assert!(Body::<Full<Bytes>>::from(Bytes::new()).is_end_stream());
    }
}
