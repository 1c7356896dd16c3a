use super::error::{Code, Problem};
use actix_web::{HttpRequest, HttpResponse};
pub fn document(_r: &HttpRequest) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(serde_json::json!({})))
}
pub fn page(_r: &HttpRequest, _file: &str) -> Result<HttpResponse, Problem> {
    Err(Problem::new(Code::NotFound, "x"))
}
