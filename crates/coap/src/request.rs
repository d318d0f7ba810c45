//! What a request asks for: checked, put together from blocks, and handed on.

use coap_lite::{CoapOption, Packet, RequestType, ResponseType};
use sealcast_ledger::TopicFilter;
use sealcast_mqtt::{Text, TopicName};

use crate::{
    Output, Publish,
    answer::Answer,
    block::{self, Block, put_uint, uint},
    server::{Exchange, MAX_EXCHANGES, MAX_OBSERVERS, MAX_UPLOADS, Observer, Server, Upload},
};

/// What a request asks for, apart from its code.
struct Target {
    topic: TopicName,
    filter: TopicFilter,
    retain: bool,
}

impl Server {
    /// Hands a request on under the number `self.next`, or answers at once.
    pub(crate) fn begin(
        &mut self,
        exchange: &mut Exchange,
        packet: &Packet,
        method: RequestType,
        now_ms: u64,
    ) -> Result<(), Answer> {
        if !self.rate.admit(now_ms) {
            return Err(Answer::refusal(
                ResponseType::TooManyRequests,
                "too many requests a second (coap.max_per_second)",
            ));
        }
        if self.exchanges.len() >= MAX_EXCHANGES {
            return Err(Answer::refusal(ResponseType::ServiceUnavailable, "too many requests are under way"));
        }
        check_options(packet)?;
        let bad = |reason: &str| Answer::refusal(ResponseType::BadRequest, reason);
        let block = |option| match packet.get_first_option(option) {
            None => Ok(None),
            Some(value) => Block::parse(value).map(Some).ok_or_else(|| bad("malformed block option")),
        };
        (exchange.block1, exchange.block2) = (block(CoapOption::Block1)?, block(CoapOption::Block2)?);
        let path = texts(packet, CoapOption::UriPath)?;
        if path.iter().map(String::as_str).eq([".well-known", "core"]) && method == RequestType::Get {
            let mut answer = Answer::new(ResponseType::Content).with(CoapOption::ContentFormat, put_uint(40));
            answer.payload = b"</topics>;rt=\"sealcast.topics\";obs".to_vec();
            return Err(answer);
        }
        let target = self.target(&path, &texts(packet, CoapOption::UriQuery)?)?;
        target.topic.as_str().clone_into(&mut exchange.topic);
        match method {
            RequestType::Put | RequestType::Post => self.begin_publish(exchange, packet, target, now_ms),
            RequestType::Get => self.begin_get(exchange, packet, target, now_ms),
            _ => Err(Answer::refusal(ResponseType::MethodNotAllowed, "GET, PUT and POST")),
        }
    }

    fn target(&self, path: &[String], queries: &[String]) -> Result<Target, Answer> {
        let bad = |reason: String| Answer::refusal(ResponseType::BadRequest, &reason);
        let (mut retain, mut known) = (false, self.token.is_none());
        for query in queries {
            match query.split_once('=') {
                Some(("retain", "1")) => retain = true,
                Some(("retain", "0")) => retain = false,
                Some(("token", given)) => known = self.token.as_ref().is_none_or(|token| token(given.as_bytes())),
                _ => return Err(bad("there are ?retain=1 and ?token=".to_owned())),
            }
        }
        if !known {
            let reason = "the token of coap.token_file is missing or wrong: ?token=";
            return Err(Answer::refusal(ResponseType::Unauthorized, reason));
        }
        let topic = match path {
            [first, topic @ ..] if first == "topics" && !topic.is_empty() => topic.join("/"),
            _ => {
                let reason = "there is /topics/<topic> and nothing else";
                return Err(Answer::refusal(ResponseType::NotFound, reason));
            }
        };
        let wrong = |error: &dyn std::fmt::Display| bad(format!("{topic:?} is not a topic: {error}"));
        Ok(Target {
            filter: topic.parse().map_err(|error| wrong(&error))?,
            topic: TopicName::new(&topic).map_err(|error| wrong(&error))?,
            retain,
        })
    }

    fn begin_publish(
        &mut self,
        exchange: &Exchange,
        packet: &Packet,
        target: Target,
        now_ms: u64,
    ) -> Result<(), Answer> {
        let content_type = match packet.get_first_option(CoapOption::ContentFormat).map(|value| uint(value)) {
            None => None,
            Some(number) => {
                let name = number
                    .and_then(block::media_type)
                    .ok_or_else(|| Answer::refusal(ResponseType::UnsupportedContentFormat, "unknown content format"))?;
                Text::new(name).ok()
            }
        };
        let payload = match exchange.block1 {
            None => packet.payload.clone(),
            Some(block) => self.upload(exchange, block, &packet.payload, now_ms)?,
        };
        if payload.len() > self.limits.max_payload_bytes {
            return Err(self.too_large());
        }
        let message = Publish { topic: target.topic, payload: payload.into(), retain: target.retain, content_type };
        self.outputs.push_back(Output::Publish { exchange: self.next, message });
        Ok(())
    }

    /// Takes one block; gives the whole with the last one, and an answer in its place before (RFC 7959 §2.5).
    fn upload(&mut self, exchange: &Exchange, block: Block, payload: &[u8], now_ms: u64) -> Result<Vec<u8>, Answer> {
        let echo = |answer: Answer| answer.with(CoapOption::Block1, block.encode());
        let place = self.uploads.iter().position(|u| u.peer == exchange.peer && u.topic == exchange.topic);
        let earlier = place.and_then(|place| self.uploads.remove(place));
        if block.more && payload.len() != block.bytes() {
            return Err(echo(Answer::refusal(ResponseType::BadRequest, "a block with others after it is full")));
        }
        let mut upload = match earlier {
            _ if block.num == 0 => {
                Upload { peer: exchange.peer, topic: exchange.topic.clone(), bytes: Vec::new(), last_ms: now_ms }
            }
            Some(upload) if upload.bytes.len() == block.start() => upload,
            _ => {
                let reason = "blocks before this one are missing: begin with block 0";
                return Err(echo(Answer::refusal(ResponseType::RequestEntityIncomplete, reason)));
            }
        };
        if upload.bytes.len() + payload.len() > self.limits.max_payload_bytes {
            return Err(echo(self.too_large()));
        }
        upload.bytes.extend_from_slice(payload);
        upload.last_ms = now_ms;
        if !block.more {
            return Ok(upload.bytes);
        }
        if self.uploads.len() >= MAX_UPLOADS {
            self.uploads.pop_front();
        }
        self.uploads.push_back(upload);
        Err(echo(Answer::new(ResponseType::Continue)))
    }

    fn too_large(&self) -> Answer {
        let max = self.limits.max_payload_bytes;
        Answer::refusal(ResponseType::RequestEntityTooLarge, &format!("more than {max} bytes (coap.max_payload_bytes)"))
            .with(CoapOption::Size1, put_uint(u32::try_from(max).unwrap_or(u32::MAX)))
    }

    fn begin_get(
        &mut self,
        exchange: &mut Exchange,
        packet: &Packet,
        target: Target,
        now_ms: u64,
    ) -> Result<(), Answer> {
        let observe = packet.get_first_option(CoapOption::Observe).and_then(|value| uint(value));
        if exchange.block2.is_some_and(|block| block.num > 0) {
            let kept = self.downloads.iter().find(|d| d.peer == exchange.peer && d.topic == exchange.topic);
            if let Some(message) = kept.map(|download| download.message.clone()) {
                return Err(self.content(exchange.peer, &exchange.topic, message, exchange.block2, now_ms));
            }
        } else if let Some(observe @ (0 | 1)) = observe {
            let same = |o: &Observer| o.peer == exchange.peer && o.token == exchange.token;
            let earlier: Vec<u64> = self.observers.iter().filter(|(_, o)| same(o)).map(|(id, _)| *id).collect();
            earlier.into_iter().for_each(|id| self.forget_observer(id));
            // Without room the answer is that of a plain GET (RFC 7641 §4.1).
            if observe == 0 && self.observers.len() < MAX_OBSERVERS {
                let observer = self.next;
                exchange.observer = Some(observer);
                let entry = Observer {
                    peer: exchange.peer,
                    token: exchange.token.clone(),
                    topic: exchange.topic.clone(),
                    szx: exchange.block2.unwrap_or(Block::FIRST).szx,
                    waits: None,
                    newest: None,
                };
                self.observers.insert(observer, entry);
                self.outputs.push_back(Output::Observe { exchange: self.next, observer, topic: target.filter });
                return Ok(());
            }
        }
        self.outputs.push_back(Output::Last { exchange: self.next, topic: target.filter });
        Ok(())
    }
}

/// Options that must be understood (RFC 7252 §5.4.1) are, or the request is refused.
fn check_options(packet: &Packet) -> Result<(), Answer> {
    for (number, _) in packet.options() {
        match number {
            35 | 39 => {
                return Err(Answer::refusal(ResponseType::ProxyingNotSupported, "this is no proxy"));
            }
            3 | 7 | 11 | 15 | 17 | 23 | 27 => {}
            critical if critical % 2 == 1 => {
                let reason = format!("option {critical} is not understood");
                return Err(Answer::refusal(ResponseType::BadOption, &reason));
            }
            _ => {}
        }
    }
    Ok(())
}

fn texts(packet: &Packet, option: CoapOption) -> Result<Vec<String>, Answer> {
    let values = packet.get_option(option).into_iter().flatten();
    values
        .map(|value| String::from_utf8(value.clone()))
        .collect::<Result<_, _>>()
        .map_err(|_| Answer::refusal(ResponseType::BadOption, "an option is not UTF-8"))
}
