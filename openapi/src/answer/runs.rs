//! The runs of one answer, one after the other.
//!
//! In turn and not at once: they would fill the model's queue, in which others stand too, and the
//! NPU makes one after the other anyway. Between two runs of an answer others have their turn.

use std::{iter::repeat_n, sync::Arc};

use futures_util::{StreamExt, stream::BoxStream};
use rkllama_core::{Engine, Event, Finish, Request, ToolCallPiece};
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
    let Checked { requests, n, view, .. } = checked;
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
            Event::Finished(finished) => self.finish = Some(finished.finish),
        }
    }
}
