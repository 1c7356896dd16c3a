fn main() { println!("{:?}", lariat_chaos::redis::run(std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(5), std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(1000))); }
