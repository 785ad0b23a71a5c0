//! The page at the root, for whoever looks with a browser.

use rkllama_core::{LoadState, ModelState};

use crate::State;

/// Nothing is fetched and nothing runs.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;\
    padding:0 1rem;color:#1c1c1c;background:#fafafa}h1{font-size:1.5rem}table{border-collapse:\
    collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #ddd}\
    code{background:#eee;padding:.1rem .3rem;border-radius:.2rem}\
    @media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}th,td{border-color:\
    #333}code{background:#2a2a2a}a{color:#8ab4f8}}";

/// The models and how they are, and where the rest is told.
pub(super) fn status(state: &State) -> String {
    let residents = state.engine.residents();
    let models = state.models.list();
    let row = |id: &str, words: &str| {
        format!("<tr><td><code>{}</code></td><td>{}</td></tr>", escaped(id), escaped(words))
    };
    let rows = models.iter().map(|model| {
        let resident = residents.iter().find(|resident| resident.model == model.id);
        let words = match (&model.state, resident.map(|resident| resident.state)) {
            (ModelState::Incomplete(reason), _) => format!("incomplete: {reason}"),
            (_, None) => "not loaded".to_owned(),
            (_, Some(LoadState::Loading(since))) => format!("loading for {} s", since.as_secs()),
            (_, Some(LoadState::Idle)) => "loaded".to_owned(),
            (_, Some(LoadState::Busy)) => "answering".to_owned(),
        };
        row(&model.id, &words)
    });
    let models: String = rows.collect();
    let models = match models.is_empty() {
        true => "<p>No model is installed.</p>".to_owned(),
        false => format!("<table><tr><th>Model</th><th>State</th></tr>{models}</table>"),
    };
    let problems = state.engine.problems();
    let problems: String = problems
        .iter()
        .map(|it| format!("<li>{}: {}</li>", escaped(&it.subject), escaped(&it.detail)))
        .collect();
    let problems = match problems.is_empty() {
        true => String::new(),
        false => format!("<h2>Problems</h2><ul>{problems}</ul>"),
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>rkllama</title>\
         <style>{STYLE}</style></head><body><h1>rkllama {}</h1>\
         <p>The server runs. OpenAI's clients work with the base URL <code>/v1</code>, Ollama's \
         and Anthropic's with this address.</p>{models}{problems}\
         <p><a href=\"/docs/\">All routes</a> · <a href=\"/health\">Health</a> · \
         <a href=\"/openapi.json\">OpenAPI</a></p></body></html>",
        escaped(&state.version)
    )
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_markup() {
        assert_eq!(
            escaped("<b>\"a\" & 'b'</b>"),
            "&lt;b&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/b&gt;"
        );
    }
}
