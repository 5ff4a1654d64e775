//! What is known already, or will be: most answers under load are known when they are asked for, and then cost no task a wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A value that is there, or a future of it.
pub enum Soon<T> {
    Known(T),
    Later(Pin<Box<dyn Future<Output = T>>>),
    /// It was known, and was given out.
    Gone,
}

impl<T> Soon<T> {
    pub fn later(future: impl Future<Output = T> + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for Soon<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Self::Later(future) = &mut *self {
            return future.as_mut().poll(cx);
        }
        match std::mem::replace(&mut *self, Self::Gone) {
            Self::Known(value) => Poll::Ready(value),
            _ => panic!("polled after it was done"),
        }
    }
}
