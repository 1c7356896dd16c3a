#![allow(clippy::unwrap_used)]
//! What actix does and Lariat leans on. Its documentation promises little of it, so that each fact
//! has a test here: a new version in which it is otherwise is noticed.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::prelude::{Handler, MailboxError, Message};

use super::*;
use crate::shard::bench::neighbour;

/// Notes what it is told, and does as it is told.
#[derive(Default)]
struct Told {
    numbers: Rc<RefCell<Vec<u32>>>,
    /// Was a panic under way when it stopped?
    stopped: Rc<Cell<Option<bool>>>,
}

impl Actor for Told {
    type Context = Context<Self>;

    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        self.stopped.set(Some(std::thread::panicking()));
    }
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Note(u32);

/// Asks it to take nothing until the thread's other tasks had so many turns.
#[derive(Message)]
#[rtype(result = "()")]
struct Pause(u32);

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Note> for Told {
    type Result = u32;
    fn handle(&mut self, note: Note, _ctx: &mut Context<Self>) -> u32 {
        self.numbers.borrow_mut().push(note.0);
        note.0
    }
}

impl Handler<Pause> for Told {
    type Result = ();
    fn handle(&mut self, pause: Pause, ctx: &mut Context<Self>) {
        if pause.0 > 0 {
            let turn = tokio::task::yield_now().into_actor(self);
            ctx.wait(turn.map(move |(), told, ctx| told.handle(Pause(pause.0 - 1), ctx)));
        }
    }
}

impl Handler<Panic> for Told {
    type Result = ();
    fn handle(&mut self, _panic: Panic, _ctx: &mut Context<Self>) {
        panic!("as the test wants it");
    }
}

fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

#[test]
fn a_mailbox_takes_whatever_is_sent_and_keeps_its_order() {
    run(async {
        let told = Told::default();
        let numbers = told.numbers.clone();
        let told = start(told);
        (0..100_000).for_each(|n| told.do_send(Note(n)));
        assert_eq!(told.send(Note(100_000)).await, Ok(100_000));
        assert!(numbers.borrow().iter().copied().eq(0..=100_000));
    });
}

#[test]
fn a_mailbox_is_emptied_before_the_thread_does_anything_else() {
    run(async {
        let told = Told::default();
        let numbers = told.numbers.clone();
        let told = start(told);
        told.send(Note(0)).await.unwrap();
        (1..=10_000).for_each(|n| told.do_send(Note(n)));
        let seen = actix_rt::spawn({
            let numbers = numbers.clone();
            async move { numbers.borrow().len() }
        });
        assert_eq!(seen.await.unwrap(), 10_001, "the reason why batches are bounded");
    });
}

#[test]
fn an_actor_that_waits_takes_no_message_and_its_thread_goes_on() {
    run(async {
        let told = Told::default();
        let numbers = told.numbers.clone();
        let told = start(told);
        let turns = Rc::new(Cell::new(0));
        let counting = turns.clone();
        let neighbour = neighbour(move || counting.set(counting.get() + 1));
        told.do_send(Note(1));
        told.do_send(Pause(100));
        assert_eq!(told.send(Note(2)).await, Ok(2));
        assert!(turns.get() >= 99, "{} turns of a neighbour", turns.get());
        assert_eq!(*numbers.borrow(), [1, 2]);
        neighbour.abort();
    });
}

#[test]
fn a_panic_ends_its_actor_and_nobody_else() {
    run(async {
        let told = Told::default();
        let (numbers, stopped) = (told.numbers.clone(), told.stopped.clone());
        let (told, neighbour) = (start(told), start(Told::default()));
        told.do_send(Note(1));
        let (asked, later) = (told.send(Panic), told.send(Note(2)));
        let (asked, later) = (actix_rt::spawn(asked), actix_rt::spawn(later));
        assert_eq!(asked.await.unwrap(), Err(MailboxError::Closed), "done or not: nobody knows");
        assert_eq!(later.await.unwrap(), Err(MailboxError::Closed));
        assert_eq!(stopped.get(), Some(true), "a panic in `stopped` would end the process");
        assert_eq!(*numbers.borrow(), [1]);
        assert!(!told.connected());
        told.do_send(Note(3));
        assert_eq!(neighbour.send(Note(4)).await, Ok(4), "on the same thread");
    });
}

#[test]
fn a_question_that_is_given_up_is_skipped_and_what_was_only_told_is_not() {
    run(async {
        let told = Told::default();
        let numbers = told.numbers.clone();
        let told = start(told);
        told.send(Note(0)).await.unwrap();
        {
            let mut question = std::pin::pin!(told.send(Note(1)));
            let waker = std::task::Waker::noop();
            let asked = question.as_mut().poll(&mut std::task::Context::from_waker(waker));
            assert!(asked.is_pending(), "it is in the mailbox");
            told.do_send(Note(2));
        }
        told.send(Note(3)).await.unwrap();
        assert_eq!(*numbers.borrow(), [0, 2, 3], "why answers come by message here");
    });
}
