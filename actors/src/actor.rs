//! Starting actors with a mailbox that holds no more than was sent to it.
//!
//! actix's mailbox capacity is not a bound (`do_send` ignores it and each address owns a free
//! place), and past it `send` enqueues only when first polled, which can reorder. So mailboxes
//! here have capacity 0 from the start, everything is sent with `do_send`, and what may wait is
//! bounded by [`crate::admission`] and by the windows of senders.

use actix::{Actor, Addr, AsyncContext, Context, dev};

/// Starts an actor on the current thread.
pub fn start<A: Actor<Context = Context<A>>>(actor: A) -> Addr<A> {
    create(|_| actor)
}

/// Starts an actor that needs its own address to be made.
pub fn create<A: Actor<Context = Context<A>>>(make: impl FnOnce(&mut Context<A>) -> A) -> Addr<A> {
    let (_sender, receiver) = dev::channel::channel(0);
    let mut context = Context::with_receiver(receiver);
    let actor = make(&mut context);
    let address = context.address();
    context.run(actor);
    address
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
