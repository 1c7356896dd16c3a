//! What the table of operations is made of.

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Patch,
}

impl Method {
    /// Its key in a path item.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "get",
            Method::Head => "head",
            Method::Put => "put",
            Method::Post => "post",
            Method::Delete => "delete",
            Method::Patch => "patch",
        }
    }
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Header,
}

/// A parameter; its schema is JSON text.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub schema: &'static str,
    pub description: &'static str,
}

/// What a body is.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// JSON of a named schema.
    Json(&'static str),
    /// An error.
    Problem,
    /// A value.
    Bytes,
    /// Text of this media type.
    Text(&'static str),
}

/// A status that is no error, with its body and headers.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    pub status: u16,
    pub description: &'static str,
    pub body: Option<Body>,
    pub headers: &'static [&'static str],
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub path: &'static str,
    pub methods: &'static [Method],
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    pub parameters: &'static [Parameter],
    pub body: Option<Body>,
    pub replies: &'static [Reply],
    pub errors: &'static [u16],
}
