#![allow(clippy::unwrap_used)]
//! What actix does and Lariat leans on. Its documentation promises little of it, so that each fact
//! has a test here: a new version in which it is otherwise is noticed.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::prelude::{ActorContext, Handler, MailboxError, Message};

use super::*;
use crate::shard::bench::neighbour;

/// Notes what it is told, and does as it is told.
#[derive(Default)]
struct Told {
    numbers: Rc<RefCell<Vec<u32>>>,
    /// Was a panic under way when it stopped?
    stopped: Rc<Cell<Option<bool>>>,
    /// How often futures that it spawned were polled.
    polls: Rc<Cell<usize>>,
    /// A part of its value: notes it was told, however often it was stopped meanwhile.
    notes: u32,
}

impl actix::Supervised for Told {}

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

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

/// Asks it to spawn so many futures that nothing ever wakes.
#[derive(Message)]
#[rtype(result = "()")]
struct Spawn(usize);

#[derive(Message)]
#[rtype(result = "u32")]
struct CountNotes;

impl Handler<Note> for Told {
    type Result = u32;
    fn handle(&mut self, note: Note, _ctx: &mut Context<Self>) -> u32 {
        self.notes += 1;
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

impl Handler<Stop> for Told {
    type Result = ();
    fn handle(&mut self, _stop: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Spawn> for Told {
    type Result = ();
    fn handle(&mut self, spawn: Spawn, ctx: &mut Context<Self>) {
        for _ in 0..spawn.0 {
            let polls = self.polls.clone();
            let never = poll_fn(move |_| {
                polls.set(polls.get() + 1);
                Poll::<()>::Pending
            });
            ctx.spawn(never.into_actor(self));
        }
    }
}

impl Handler<CountNotes> for Told {
    type Result = u32;
    fn handle(&mut self, _count: CountNotes, _ctx: &mut Context<Self>) -> u32 {
        self.notes
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

#[test]
fn past_its_capacity_a_mailbox_takes_a_question_only_when_it_is_polled() {
    for (capacity, expected) in [(1, [0, 2, 3, 1]), (0, [0, 1, 2, 3])] {
        run(async {
            let (_sender, receiver) = dev::channel::channel(capacity);
            let context = Context::with_receiver(receiver);
            let address = context.address();
            let told = Told::default();
            let numbers = told.numbers.clone();
            context.run(told);
            let first = address.send(Note(0));
            let second = address.send(Note(1));
            // A clone of the address has a place of its own, and this way asks for none.
            let third = address.clone().send(Note(2));
            address.do_send(Note(3));
            assert_eq!((second.await, first.await, third.await), (Ok(1), Ok(0), Ok(2)));
            assert_eq!(*numbers.borrow(), expected, "why mailboxes have capacity 0 here");
        });
    }
}

#[test]
fn every_message_polls_all_futures_that_its_actor_spawned() {
    run(async {
        let told = Told::default();
        let polls = told.polls.clone();
        let told = start(told);
        told.send(Spawn(100)).await.unwrap();
        told.send(Note(0)).await.unwrap();
        let before = polls.get();
        for n in 1..=10 {
            told.send(Note(n)).await.unwrap();
        }
        let more = polls.get() - before;
        assert!(more >= 9 * 100, "{more} polls: why a Router holds tickets and no futures");
    });
}

#[test]
fn the_supervisor_of_actix_restarts_the_same_value_and_not_after_a_panic() {
    run(async {
        let told = actix::Supervisor::start(|_| Told::default());
        assert_eq!(told.send(Note(1)).await, Ok(1));
        told.do_send(Stop);
        assert_eq!(told.send(CountNotes).await, Ok(1), "its value went on");
        assert_eq!(told.send(Panic).await, Err(MailboxError::Closed));
        assert_eq!(told.send(Note(2)).await, Err(MailboxError::Closed));
        assert!(!told.connected(), "why shards have a supervisor that makes them anew");
    });
}
