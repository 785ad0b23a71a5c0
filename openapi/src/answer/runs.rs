//! The runs of one answer, one after the other.
//!
//! In turn and not at once: they would fill the model's queue, in which others stand too, and the
//! NPU makes one after the other anyway. Between two runs of an answer others have their turn.

use std::{iter::repeat_n, sync::Arc};

use futures_util::{StreamExt, stream::BoxStream};
use rkllama_core::{Engine, Event, Finish, Finished, Logprobs, Request, ToolCallPiece};
use rkllama_http::ApiError;

use super::{Tally, Work, random_id, tally::Clock};
use crate::{
    convert::{Checked, View},
    failure,
    refusal::unsupported,
};

/// One step of one of the answers.
pub(crate) struct Step {
    /// The answer's place.
    pub(crate) choice: usize,
    /// Whether it is the first answer to its prompt.
    pub(crate) is_first_of_prompt: bool,
    /// What happens.
    pub(crate) event: Event,
    /// Where the time has gone so far, if the client wants to know.
    pub(crate) so_far: Option<Work>,
}

/// The steps of all answers, choice after choice. Each ends with `Finished`, or all end with an
/// error.
pub(crate) type Steps = BoxStream<'static, Result<Step, ApiError>>;

/// Runs what was checked. Dropping the steps cancels.
pub(crate) fn in_turn(engine: Arc<dyn Engine>, checked: Checked) -> Steps {
    let Checked { requests, n, best_of, view, .. } = checked;
    if best_of > n {
        return best_in_turn(engine, requests, Contest { n, best_of }, view);
    }
    let runs = requests.into_iter().flat_map(move |request| repeat_n(request, n));
    let steps = async_stream::stream! {
        for (choice, request) in runs.enumerate() {
            let mut run = run(&*engine, request, view);
            loop {
                let Some(step) = run.next().await else {
                    yield Err(failure::broken_off());
                    return;
                };
                let (event, so_far) = match step {
                    Ok(step) => step,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                };
                let is_finished = matches!(event, Event::Finished(_));
                yield Ok(Step { choice, is_first_of_prompt: choice % n == 0, event, so_far });
                if is_finished {
                    break;
                }
            }
        }
    };
    steps.boxed()
}

/// So many answers to each prompt, of so many.
#[derive(Clone, Copy)]
struct Contest {
    n: usize,
    best_of: usize,
}

/// The likeliest answers to each prompt, when all of them are there.
fn best_in_turn(
    engine: Arc<dyn Engine>,
    requests: Vec<Request>,
    contest: Contest,
    view: View,
) -> Steps {
    let scored = View { logprobs: true, ..view };
    let steps = async_stream::try_stream! {
        for (prompt, request) in requests.into_iter().enumerate() {
            let mut answers = Vec::with_capacity(contest.best_of);
            for _ in 0..contest.best_of {
                answers.push(one(run(&*engine, request.clone(), scored)).await?);
            }
            for (place, answer) in best(answers, contest.n).into_iter().enumerate() {
                let choice = prompt * contest.n + place;
                for event in answer.shown(view) {
                    yield Step { choice, is_first_of_prompt: place == 0, event, so_far: None };
                }
            }
        }
    };
    steps.boxed()
}

/// An answer that has ended.
struct Answer {
    events: Vec<Event>,
    finished: Finished,
}

impl Answer {
    fn shown(self, view: View) -> impl Iterator<Item = Event> {
        let Self { events, mut finished } = self;
        if !view.logprobs {
            finished.logprobs = None;
        }
        events.into_iter().chain([Event::Finished(finished)])
    }
}

async fn one(mut run: BoxStream<'_, Seen>) -> Result<Answer, ApiError> {
    let mut events = Vec::new();
    while let Some(seen) = run.next().await {
        match seen?.0 {
            Event::Started(started) if started.ignored.contains(&"logprobs") => break,
            Event::Finished(finished) if finished.logprobs.is_some() => {
                return Ok(Answer { events, finished });
            }
            // It is too long to be compared with others.
            Event::Finished(_) => break,
            event => events.push(event),
        }
    }
    Err(unsupported("best_of"))
}

/// The likeliest answers, the likeliest first; the first one is charged with those that are left out.
fn best(mut answers: Vec<Answer>, n: usize) -> Vec<Answer> {
    let mean =
        |answer: &Answer| answer.finished.logprobs.as_ref().map_or(0.0, Logprobs::answer_mean);
    answers.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let rest = answers.split_off(n.min(answers.len()));
    let Some(first) = answers.first_mut() else { return answers };
    let (usage, timings) = (&mut first.finished.usage, &mut first.finished.timings);
    for Answer { finished: left, .. } in rest {
        usage.completion_tokens =
            usage.completion_tokens.saturating_add(left.usage.completion_tokens);
        usage.reasoning_tokens = usage.reasoning_tokens.saturating_add(left.usage.reasoning_tokens);
        timings.queued = timings.queued.saturating_add(left.timings.queued);
        timings.prefill = timings.prefill.saturating_add(left.timings.prefill);
        timings.decode = timings.decode.saturating_add(left.timings.decode);
    }
    answers
}

type Seen = Result<(Event, Option<Work>), ApiError>;

/// One generation, as far as the client wants to see it.
fn run(engine: &dyn Engine, request: Request, view: View) -> BoxStream<'static, Seen> {
    let mut clock = view.timings_per_token.then(Clock::new);
    let mut shown = Shown { view, has_hidden_calls: false };
    let generation = engine.generate(request);
    let seen = generation.filter_map(move |event| {
        let seen = match event {
            Err(error) => Some(Err(failure::engine(error, view.blame))),
            Ok(event) => shown.of(event).transpose(),
        };
        let seen = seen.map(|event| {
            event.map(|event| {
                let so_far = clock.as_mut().and_then(|clock| clock.tick(&event));
                (event, so_far)
            })
        });
        std::future::ready(seen)
    });
    seen.boxed()
}

/// What of a generation is shown.
struct Shown {
    view: View,
    has_hidden_calls: bool,
}

impl Shown {
    fn of(&mut self, event: Event) -> Result<Option<Event>, ApiError> {
        Ok(match event {
            Event::Started(started) => match started.ignored.first() {
                Some(field) if self.view.strict => return Err(unsupported(field)),
                _ => Some(Event::Started(started)),
            },
            Event::Reasoning(_) if !self.view.reasoning => None,
            Event::ToolCall(
                ToolCallPiece::Begin { index, .. } | ToolCallPiece::Arguments { index, .. },
            ) if index > 0 && !self.view.several_calls => {
                self.has_hidden_calls = true;
                None
            }
            // Where a second call has begun, the first is complete whatever became of the second.
            Event::Finished(mut finished) if self.has_hidden_calls => {
                finished.finish = Finish::ToolCalls;
                Some(Event::Finished(finished))
            }
            event @ (Event::Reasoning(_)
            | Event::Text(_)
            | Event::ToolCall(_)
            | Event::Finished(_)) => Some(event),
        })
    }
}

/// A call of a tool, complete.
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Call {
    /// A new id for a call.
    pub(crate) fn new_id() -> String {
        random_id("call_")
    }
}

/// One of the answers, complete.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) finish: Option<Finish>,
    pub(crate) logprobs: Option<Logprobs>,
}

/// All answers, complete.
pub(crate) struct Whole {
    pub(crate) choices: Vec<Choice>,
    pub(crate) tally: Tally,
    /// The parameters the runtime ignored.
    pub(crate) ignored: Vec<&'static str>,
}

/// Waits for all answers.
pub(crate) async fn whole(mut steps: Steps) -> Result<Whole, ApiError> {
    let mut whole = Whole { choices: Vec::new(), tally: Tally::default(), ignored: Vec::new() };
    while let Some(step) = steps.next().await {
        let step = step?;
        if whole.choices.len() <= step.choice {
            whole.choices.push(Choice::default());
        }
        whole.tally.add(&step);
        match (step.event, whole.choices.last_mut()) {
            (Event::Started(started), _) => whole.ignored = started.ignored,
            (event, Some(choice)) => choice.take(event),
            (_, None) => {}
        }
    }
    Ok(whole)
}

impl Choice {
    fn take(&mut self, event: Event) {
        match event {
            Event::Started(_) => {}
            Event::Reasoning(text) => self.reasoning.push_str(&text),
            Event::Text(text) => self.text.push_str(&text),
            Event::ToolCall(ToolCallPiece::Begin { name, .. }) => {
                let call = Call { id: Call::new_id(), name, arguments: String::new() };
                self.calls.push(call);
            }
            Event::ToolCall(ToolCallPiece::Arguments { json, .. }) => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(&json);
                }
            }
            Event::Finished(finished) => {
                self.finish = Some(finished.finish);
                self.logprobs = finished.logprobs;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rkllama_core::{Timings, TokenLogprob, TokenText, Usage};

    use super::*;

    fn answer(name: &str, logprobs: &[f32]) -> Answer {
        let told = |logprob: &f32| TokenLogprob {
            token: TokenText { id: 1, bytes: b"x".to_vec() },
            logprob: Some(*logprob),
            top: Vec::new(),
        };
        let completion_tokens = u32::try_from(logprobs.len()).unwrap();
        let finished = Finished {
            finish: Finish::Stop,
            stopped_by: None,
            usage: Usage { prompt_tokens: 3, completion_tokens, ..Usage::default() },
            timings: Timings::default(),
            logprobs: Some(Logprobs {
                prompt: Vec::new(),
                answer: logprobs.iter().map(told).collect(),
            }),
        };
        Answer { events: vec![Event::Text(name.to_owned())], finished }
    }

    /// By the mean, so that a long answer is not less likely than a short one.
    #[test]
    fn the_likeliest_answers_win_and_all_are_charged() {
        let answers = vec![
            answer("worst", &[-3.0]),
            answer("best", &[-0.5, -0.5, -0.5, -0.5]),
            answer("second", &[-1.0]),
        ];
        let best = best(answers, 2);
        let names: Vec<_> = best.iter().map(|it| it.events[0].clone()).collect();
        assert_eq!(names, ["best", "second"].map(|name| Event::Text(name.to_owned())));
        let counts = best.iter().map(|it| it.finished.usage.completion_tokens);
        assert_eq!(counts.collect::<Vec<_>>(), [5, 1], "the worst one was made, too");
    }
}
