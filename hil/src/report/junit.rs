//! JUnit XML, which CI systems read.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::run::{Outcome, Run};

/// A run as JUnit XML.
///
/// # Errors
/// It cannot be written.
pub fn junit(run: &Run) -> anyhow::Result<String> {
    let mut report = Report::new("rkllama-hil");
    let mut suite = TestSuite::new(run.target.as_str());
    for case in &run.cases {
        let status = match &case.outcome {
            Outcome::Passed => TestCaseStatus::success(),
            Outcome::Failed(why) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(why.as_str());
                status
            }
            Outcome::Skipped(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why.as_str());
                status
            }
        };
        let mut written = TestCase::new(case.name.as_str(), status);
        written.set_time(Duration::from_secs_f64(case.took_s));
        suite.add_test_case(written);
    }
    report.add_test_suite(suite);
    Ok(report.to_string()?)
}
