use std::sync::Arc;
use std::time::Duration;

use super::config::{AdmissionConfig, Mode, Terms};
use super::limit::{Change, Ended, Limit};
use super::lookout::Lookout;
use super::note::Note;
use super::partitions::{PartitionSnapshot, Partitions};
use super::usual::Usual;
use crate::base::clock::{Clock, Timestamp, instant, nanos};
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::classify::Class;
use crate::config::{InvalidConfig, Live};
use crate::error::Rejected;
use crate::middleware::gate::HoldUntil;
use crate::primitives::latency::Needed;
use crate::primitives::semaphore::{self, Owner, Part, Permits, Share};
use crate::protocol::{CallAttributes, Criticality};
use crate::telemetry::{ConcurrencyGauge, Event, Telemetry};

/// What the services of a layer share.
#[derive(Debug)]
pub struct Shared<L: Limit> {
    pub(super) permits: Permits,
    pub(super) partitions: Partitions,
    terms: AtomicU64,
    pub(super) mode: Mode,
    pub(super) hold_until: HoldUntil,
    pub(super) limit: L,
    pub(super) settings: Live<Settings<L::Config>>,
    /// Held while the configuration changes: of two at a time one is first, in all places.
    changing: Mutex<()>,
    /// How much time calls have left that are let in.
    usual: Usual,
    /// How many exempt calls are under way, if the limit learns.
    exempt: AtomicU64,
    /// The limit that was last told.
    told: AtomicU64,
    /// Looks for grants that were not claimed.
    pub(super) lookout: Lookout,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
}

/// The configuration with what it takes to follow it.
#[derive(Debug)]
pub(super) struct Settings<C> {
    config: C,
    pub(super) needed: Needed,
}

impl<C> Settings<C> {
    fn new(config: C, admission: &AdmissionConfig, before: Option<&Needed>) -> Self {
        /// What is measured is what happened of late.
        const WINDOW: Duration = Duration::from_secs(10);
        Self { needed: Needed::new(admission.min_remaining, WINDOW, before), config }
    }

    fn terms(&self, admission: &AdmissionConfig, telemetry: &Telemetry) -> u64 {
        let terms = Terms::new(admission.headroom, self.needed.is_measured(), telemetry.wants_calls());
        terms.parted(!admission.partitions.is_empty()).exempting(admission.admit_exempt).0
    }
}

impl<L: Limit> Shared<L> {
    pub(super) fn validate(config: &L::Config, mode: Mode) -> Result<(), InvalidConfig> {
        L::validate(config)?;
        L::admission(config).validate_for(mode)
    }

    /// `config` is valid.
    pub(super) fn new(
        config: &L::Config,
        mode: Mode,
        hold_until: HoldUntil,
        telemetry: Telemetry,
        lookout: Lookout,
    ) -> Self {
        let admission = L::admission(config);
        let settings = Settings::new(config.clone(), admission, None);
        let first = L::first(config);
        let permits = Permits::new(first, admission.places(mode), admission.discipline);
        let shared = Self {
            permits: permits.parted(Partitions::kept(&admission.partitions)),
            partitions: Partitions::new(&admission.partitions),
            terms: AtomicU64::new(settings.terms(admission, &telemetry)),
            mode,
            hold_until,
            limit: L::new(config),
            settings: Live::new(Arc::new(settings)),
            changing: Mutex::new(()),
            usual: Usual::default(),
            exempt: AtomicU64::new(0),
            told: AtomicU64::new(0),
            lookout,
            clock: Clock::start(),
            telemetry,
        };
        shared.tell_limit();
        shared
    }

    pub(super) fn config(&self) -> L::Config {
        self.settings.read().config.clone()
    }

    pub(super) fn max_wait(&self) -> Duration {
        L::admission(&self.settings.read().config).max_wait
    }

    /// Goes on with what `change` makes of the configuration.
    pub(super) fn change(&self, change: impl FnOnce(&L::Config) -> L::Config) -> Result<(), InvalidConfig> {
        let changing = lock(&self.changing);
        let before = self.settings.read();
        let config = change(&before.config);
        Self::validate(&config, self.mode)?;
        let admission = L::admission(&config);
        self.partitions.validate(&admission.partitions)?;
        let settings = Settings::new(config.clone(), admission, Some(&before.needed));
        self.permits.queue_by(admission.places(self.mode), admission.discipline);
        self.terms.store(settings.terms(admission, &self.telemetry), Ordering::Relaxed);
        self.permits.keep(&Partitions::kept(&admission.partitions));
        let change = Change { before: &before.config, after: &config, now: self.clock.now() };
        self.limit.reconfigure(&change, |limit| self.permits.limit_to(limit));
        self.settings.swap(Arc::new(settings));
        drop(changing);
        // What is woken and told now is code that is not ours, and may come back with another change.
        Permits::turn_away_hopeless(self);
        Permits::grant(self);
        self.tell_limit();
        Ok(())
    }

    /// Tells what the limit is by now. Of two who change it at the same time the one who tells last has seen both.
    pub(super) fn tell_limit(&self) {
        while self.is_news(self.permits.counts().1) {}
    }

    /// Whether it was not known that `limit` is the limit; it is told.
    fn is_news(&self, limit: u32) -> bool {
        // Pairs with itself: who comes after another has seen the limit that the other told, or a later one.
        let told = self.told.swap(u64::from(limit), Ordering::AcqRel);
        let is_news = told != u64::from(limit);
        if is_news && self.telemetry.wants_calls() {
            let change = i64::from(limit).saturating_sub_unsigned(told);
            self.telemetry.emit(&Event::Concurrency { what: ConcurrencyGauge::Limit, change });
        }
        is_news
    }

    #[inline]
    pub(super) fn terms(&self) -> Terms {
        Terms(self.terms.load(Ordering::Relaxed))
    }

    #[cold]
    fn tell(&self, what: ConcurrencyGauge, change: i64) {
        self.telemetry.emit(&Event::Concurrency { what, change });
    }

    /// How many are under way, and how many may be.
    pub(super) fn counts(&self) -> (u32, u32) {
        self.permits.counts()
    }

    /// How many of each partition are.
    pub(super) fn partitions(&self) -> Vec<PartitionSnapshot> {
        let (_, limit) = self.permits.counts();
        let config = &self.settings.read().config;
        let named = (0..).zip(&L::admission(config).partitions);
        named
            .map(|(place, partition)| partition.snapshot(limit, self.permits.counts_of(Part::at(place))))
            .collect()
    }

    pub(super) fn queued(&self) -> usize {
        self.permits.queued()
    }

    /// Whether there may be room for a call.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.permits.has_room() || self.terms().are_parted() && self.permits.has_room_in_parts()
    }

    /// Whether the next call may be admitted although there is no room.
    #[cold]
    pub(super) fn is_exempting(&self) -> bool {
        self.terms().are_exempting()
    }

    /// Returns a permit for a call with these attributes, if there is room.
    #[inline]
    pub(super) fn permit(self: &Arc<Self>, attributes: &CallAttributes) -> Option<semaphore::Permit<Self>> {
        let terms = self.terms();
        if terms.are_same_for_all() {
            return semaphore::Permit::try_acquire(self, Share::WHOLE);
        }
        self.permit_by(terms, attributes)
    }

    #[inline(never)]
    fn permit_by(
        self: &Arc<Self>,
        terms: Terms,
        attributes: &CallAttributes,
    ) -> Option<semaphore::Permit<Self>> {
        let part = self.partitions.part(attributes.partition);
        if terms.exempt(attributes) {
            return Some(semaphore::Permit::exempt(self, part));
        }
        semaphore::Permit::try_acquire_of(self, part, terms.share(attributes.criticality))
    }

    /// Whether there is enough time left for a call.
    ///
    /// # Errors
    ///
    /// If there is not.
    #[inline]
    pub(super) fn can_finish(&self, attributes: &CallAttributes) -> Result<(), Rejected> {
        match attributes.deadline {
            None => Ok(()),
            Some(deadline) => {
                let now = instant();
                self.is_enough(nanos(deadline.remaining_at(now)), self.clock.at(now))
            }
        }
    }

    fn is_enough(&self, remaining: u64, now: Timestamp) -> Result<(), Rejected> {
        // Calls that are refused do not say what is usual: many of them with a tiny deadline would
        // let others begin that cannot finish. Those that were let in for a slow while do.
        if remaining == 0 || remaining < self.needed(now) {
            return Err(self.too_late(remaining));
        }
        self.usual.record(remaining);
        Ok(())
    }

    /// Takes note that a call begins.
    #[inline]
    pub(super) fn begin(&self, attributes: &CallAttributes) -> Note {
        let terms = self.terms();
        if terms.are_told() {
            self.tell(ConcurrencyGauge::InFlight, 1);
        }
        if L::LEARNS || terms.are_noted() { self.note(terms, attributes) } else { Note::NOTHING }
    }

    #[inline(never)]
    fn note(&self, terms: Terms, attributes: &CallAttributes) -> Note {
        let is_timed = (L::LEARNS || terms.are_measured()) && !terms.exempt(attributes);
        if L::LEARNS && !is_timed {
            self.exempt.fetch_add(1, Ordering::Relaxed);
        }
        let time = if is_timed { self.clock.now() } else { Timestamp::NEVER };
        Note::new(self.partitions.part(attributes.partition), time)
    }

    /// Takes note that a call has ended, and leaves its part of the limit.
    #[inline]
    pub(super) fn end(&self, note: Note, class: Option<Class>) {
        if note != Note::NOTHING {
            self.learn(note, class);
        }
    }

    #[inline(never)]
    fn learn(&self, note: Note, class: Option<Class>) {
        let began = note.time();
        let in_flight = if L::LEARNS { self.learned_in_flight() } else { 0 };
        self.permits.leave(note.part());
        if began == Timestamp::NEVER {
            return self.exempt_ended();
        }
        let now = self.clock.now();
        if self.terms().are_measured() {
            self.measure(now.since(began), now, class);
        }
        if !L::LEARNS {
            return;
        }
        let call = Ended { began, now, in_flight, class };
        if self.limit.ended(&call, |limit| self.permits.limit_to(limit)) {
            // What is kept for parts has changed with the limit.
            Permits::turn_away_hopeless(self);
            // Those who wait hear of it when the permit comes back, right after this.
            self.tell_limit();
        }
    }

    /// How many calls are under way that an adaptive limit learns from.
    fn learned_in_flight(&self) -> u32 {
        let exempt = u32::try_from(self.exempt.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        self.permits.counts().0.saturating_sub(exempt)
    }

    #[cold]
    fn exempt_ended(&self) {
        if L::LEARNS {
            self.exempt.fetch_add(1_u64.wrapping_neg(), Ordering::Relaxed);
        }
    }

    /// Takes note of how long a call took. One that was given up tells only that it takes longer than that.
    fn measure(&self, latency: Duration, now: Timestamp, class: Option<Class>) {
        let needed = &self.settings.read().needed;
        let tells = match class {
            Some(class) => class == Class::Success,
            None => nanos(latency) > needed.at(now),
        };
        if tells {
            needed.record(latency, now);
        }
    }

    /// Takes note that a permit comes back.
    #[inline]
    pub(super) fn leave(&self) {
        if self.terms().are_told() {
            self.tell(ConcurrencyGauge::InFlight, -1);
        }
    }

    /// Takes note that somebody begins to wait, or ceases to.
    pub(super) fn queues(&self, change: i64) {
        if self.terms().are_told() {
            self.tell(ConcurrencyGauge::Queued, change);
        }
    }
}

impl<L: Limit> Owner for Shared<L> {
    #[inline]
    fn permits(&self) -> &Permits {
        &self.permits
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn needed(&self, now: Timestamp) -> u64 {
        let needed = &self.settings.read().needed;
        if needed.is_measured() { needed.at(now).min(self.usual.get() / 2) } else { needed.at(now) }
    }

    fn share(&self, class: u8) -> Share {
        self.terms().share(Criticality::level(class))
    }

    fn look_at(&self, at: Timestamp) {
        self.lookout.look_at(at, &self.clock);
    }
}

impl<L: Limit> Drop for Shared<L> {
    fn drop(&mut self) {
        self.is_news(0);
    }
}
