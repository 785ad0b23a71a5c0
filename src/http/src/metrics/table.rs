//! Families of metrics as rows of a table: a name, what it means, and where its value stands.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter, histogram::Histogram},
};

/// A family whose values stand in a `T`.
pub(super) struct Row<T: 'static> {
    /// Without `_total`, which counters get.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) metric: fn(&T) -> Shown<'_>,
}

/// What a family shows of one `T`.
pub(super) enum Shown<'a> {
    One(&'a dyn EncodeMetric),
    /// `None` as long as it is empty: its lines are many.
    Spread(Option<&'a Histogram>),
    /// One for each value of a label of this name.
    By(&'static str, Vec<(&'static str, Box<dyn EncodeMetric>)>),
}

pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes every row, with a line for each of the `T`s and its labels.
pub(super) fn encode<T>(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[Row<T>],
    all: &[(Labels<'_>, &T)],
) -> fmt::Result {
    for row in rows {
        let shown = all.iter().map(|(labels, one)| (labels, (row.metric)(one)));
        let shown: Vec<_> = shown.filter(|(_, shown)| !shown.is_empty()).collect();
        let Some((_, first)) = shown.first() else { continue };
        let mut family = encoder.encode_descriptor(row.name, row.help, None, first.kind())?;
        for (labels, shown) in &shown {
            shown.encode(&mut family, labels)?;
        }
    }
    Ok(())
}

impl Shown<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Spread(histogram) => histogram.is_none(),
            Self::By(_, values) => values.is_empty(),
        }
    }

    fn kind(&self) -> MetricType {
        match self {
            Self::One(metric) => metric.metric_type(),
            Self::Spread(_) => MetricType::Histogram,
            Self::By(_, values) => {
                values.first().map_or(MetricType::Unknown, |(_, metric)| metric.metric_type())
            }
        }
    }

    fn encode(&self, family: &mut MetricEncoder<'_>, labels: &Labels<'_>) -> fmt::Result {
        match self {
            Self::One(metric) => metric.encode(family.encode_family(labels)?),
            Self::Spread(Some(histogram)) => histogram.encode(family.encode_family(labels)?),
            Self::Spread(None) => Ok(()),
            Self::By(name, values) => values.iter().try_for_each(|(value, metric)| {
                let labels = [&labels[..], &[(*name, *value)]].concat();
                metric.encode(family.encode_family(&labels)?)
            }),
        }
    }
}

/// Counters by a value of a fixed set.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<&'static str, Counter>>);

impl Tally {
    pub(super) fn inc(&self, value: &'static str) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.entry(value).or_default().inc();
    }

    pub(super) fn by(&self, label: &'static str) -> Shown<'_> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let boxed = |(value, counter): (&&'static str, &Counter)| {
            (*value, Box::new(counter.clone()) as Box<dyn EncodeMetric>)
        };
        Shown::By(label, counters.iter().map(boxed).collect())
    }
}

/// Where a histogram has its bounds.
pub(super) trait Scale {
    const BOUNDS: &'static [f64];
}

/// A histogram on a scale.
#[derive(Debug)]
pub(super) struct Spread<S> {
    histogram: Histogram,
    is_used: AtomicBool,
    scale: PhantomData<fn() -> S>,
}

impl<S: Scale> Default for Spread<S> {
    fn default() -> Self {
        let histogram = Histogram::new(S::BOUNDS.iter().copied());
        Self { histogram, is_used: AtomicBool::new(false), scale: PhantomData }
    }
}

impl<S> Spread<S> {
    pub(super) fn observe(&self, value: f64) {
        self.histogram.observe(value);
        self.is_used.store(true, Ordering::Relaxed);
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        Shown::Spread(self.is_used.load(Ordering::Relaxed).then_some(&self.histogram))
    }
}
