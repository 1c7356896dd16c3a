//! Errors of the gateway: domain errors know no status; here each gets one, in one table.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder};
use lariat_actors::op::{Applied, Failure, FailureKind};
use serde_json::json;

/// An error as a client sees it: `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What kind it is.
    pub code: Code,
    /// What happened, to what, and what to do.
    pub detail: String,
    /// For writes: did it take effect?
    pub applied: Option<Applied>,
    /// For 405: the methods that are allowed.
    pub allow: &'static [&'static str],
}

macro_rules! codes {
    ($($name:ident $status:literal $text:literal $title:literal,)*) => {
        /// Every kind of error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// Its status.
            pub fn status(self) -> StatusCode {
                let code = match self { $(Code::$name => $status,)* };
                StatusCode::from_u16(code).expect("every status in the table is one")
            }

            /// Its name in the body and in the documentation.
            pub fn text(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What it means.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    BadRequest 400 "bad_request" "The request is not well formed",
    Unauthorized 401 "unauthorized" "The bearer token is missing or wrong",
    HostNotAllowed 403 "host_not_allowed" "The Host header is not a name of this node",
    CrossSite 403 "cross_site" "A web page of another origin may not write",
    NotFound 404 "not_found" "There is nothing at this path",
    KeyNotFound 404 "key_not_found" "The cache has no such entry",
    CacheNotFound 404 "cache_not_found" "The cache is not declared",
    NodeNotFound 404 "node_not_found" "The node is not a member",
    MethodNotAllowed 405 "method_not_allowed" "The path does not take this method",
    BodyTimeout 408 "body_timeout" "The body came too slowly",
    NotAnInteger 409 "not_an_integer" "The value is not a 64-bit signed decimal integer",
    OutOfRange 409 "out_of_range" "The sum does not fit a 64-bit signed integer",
    CannotDrain 409 "cannot_drain" "The node cannot leave: it is no member, or no other member stays",
    ClusterTooOld 409 "cluster_too_old" "The cluster speaks an older protocol version than this needs",
    NodeIsHere 409 "node_is_here" "The node is the one that was asked",
    PreconditionFailed 412 "precondition_failed" "The entry is not as required",
    ValueTooLarge 413 "value_too_large" "The body is larger than allowed",
    ReplyTooLarge 413 "reply_too_large" "The replies of the batch exceed their limit",
    KeyTooLarge 414 "key_too_large" "The key is longer than the cache allows",
    UnsupportedMediaType 415 "unsupported_media_type" "The content type or encoding is not taken here",
    ShardCrashed 500 "shard_crashed" "The shard crashed while it worked on the request",
    NotReady 503 "not_ready" "The owner of the key is not reachable",
    NoQuorum 503 "no_quorum" "The node holds no lease from a majority",
    NotEnoughReplicas 503 "not_enough_replicas" "Too few copies are in sync",
    Overloaded 503 "overloaded" "Too many requests or bytes are in flight",
    Stopped 503 "stopping" "The node is stopping",
    DeadlineExceeded 504 "deadline_exceeded" "The write was not confirmed in time",
    OutcomeUnknown 504 "outcome_unknown" "The outcome of the write is unknown",
}

impl Problem {
    /// An error of this kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem { code, detail: detail.into(), applied: None, allow: &[] }
    }

    /// A request that is not well formed.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(Code::BadRequest, detail)
    }

    /// The same for a write: what does not say otherwise was refused before it was applied.
    pub fn not_applied_unless_said(mut self) -> Self {
        self.applied.get_or_insert(Applied::No);
        self
    }

    /// What a failed operation is.
    pub fn of(failure: Failure, write: bool) -> Self {
        let code = match failure.kind {
            FailureKind::NotReady => Code::NotReady,
            FailureKind::NoQuorum => Code::NoQuorum,
            FailureKind::DeadlineExceeded => Code::DeadlineExceeded,
            FailureKind::OutcomeUnknown => Code::OutcomeUnknown,
            FailureKind::NotEnoughReplicas => Code::NotEnoughReplicas,
            FailureKind::ShardCrashed => Code::ShardCrashed,
            FailureKind::Overloaded => Code::Overloaded,
            FailureKind::KeyTooLarge => Code::KeyTooLarge,
            FailureKind::ValueTooLarge => Code::ValueTooLarge,
            FailureKind::ReplyTooLarge => Code::ReplyTooLarge,
            FailureKind::NotAnInteger => Code::NotAnInteger,
            FailureKind::OutOfRange => Code::OutOfRange,
            FailureKind::CacheNotFound => Code::CacheNotFound,
            FailureKind::Stopped => Code::Stopped,
        };
        let applied = write.then_some(failure.applied);
        Problem { code, detail: failure.kind.to_string(), applied, allow: &[] }
    }

    /// The body.
    pub fn json(&self) -> serde_json::Value {
        let mut body = json!({
            "type": format!("/docs/errors#{}", self.code.text()),
            "title": self.code.title(),
            "status": self.code.status().as_u16(),
            "detail": self.detail,
            "code": self.code.text(),
        });
        if let Some(applied) = self.applied {
            body["applied"] = json!(applied_text(applied));
        }
        body
    }

    /// The response.
    pub fn response(&self) -> HttpResponse {
        let mut response: HttpResponseBuilder = HttpResponse::build(self.code.status());
        match self.code {
            Code::Overloaded => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            Code::MethodNotAllowed => {
                response.insert_header((header::ALLOW, self.allow.join(", ")));
            }
            Code::Unauthorized => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Code::KeyNotFound => {
                response.insert_header(("cache-status", "lariat; fwd=miss"));
            }
            _ => {}
        }
        response
            .insert_header((header::CONTENT_TYPE, "application/problem+json"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(self.json().to_string())
    }
}

/// `no` or `maybe`.
pub fn applied_text(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "no",
        Applied::Maybe => "maybe",
    }
}

/// The page that the `type` of every problem points to.
pub fn page() -> String {
    let rows: String = Code::ALL
        .iter()
        .map(|code| {
            format!(
                "<tr id=\"{0}\"><td><code>{0}</code></td><td>{1}</td><td>{2}</td></tr>\n",
                code.text(),
                code.status().as_u16(),
                code.title()
            )
        })
        .collect();
    format!(
        "<!doctype html><meta charset=utf-8><title>Lariat: errors</title>\
         <style>body{{font:16px/1.5 sans-serif;margin:2em;max-width:50em}}\
         td,th{{padding:.3em 1em .3em 0;text-align:left;border-bottom:1px solid #ddd}}\
         tr:target{{background:#ffc}}</style><h1>Errors</h1>\
         <p>Every error is <code>application/problem+json</code> with a <code>code</code>. Writes \
         also say <code>applied</code>: <code>no</code> (it did not and will not take effect: try \
         again) or <code>maybe</code> (it may have, or may yet: do not repeat it blindly).</p>\
         <table><tr><th>code<th>status<th>meaning</tr>\n{rows}</table>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_status_and_says_whether_it_was_applied() {
        use FailureKind::*;
        for (kind, status) in [
            (NotReady, 503),
            (NoQuorum, 503),
            (DeadlineExceeded, 504),
            (OutcomeUnknown, 504),
            (NotEnoughReplicas, 503),
            (ShardCrashed, 500),
            (Overloaded, 503),
            (KeyTooLarge, 414),
            (ValueTooLarge, 413),
            (ReplyTooLarge, 413),
            (NotAnInteger, 409),
            (OutOfRange, 409),
            (CacheNotFound, 404),
            (Stopped, 503),
        ] {
            let body = Problem::of(kind.maybe(), true).json();
            assert_eq!(body["status"], status, "{kind:?}");
            assert_eq!(body["applied"], "maybe");
            assert!(Problem::of(kind.not_applied(), false).json().get("applied").is_none());
        }
    }

    #[test]
    fn codes_have_names_of_their_own_and_stand_on_the_page() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert!(Code::ALL[..index].iter().all(|other| other.text() != code.text()));
            assert!(page().contains(&format!("id=\"{}\"", code.text())));
        }
    }
}
