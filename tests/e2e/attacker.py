"""A page that a person has open beside Dagster, and what it tries with the person's browser.

``Attacker`` serves it on a port of its own, and notes what is sent to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

# Everything that a page can make a browser send without being asked. Each attempt ends by itself; what it tells is how.
TRIES = """async ({to, query, variables}) => {
  const asked = JSON.stringify({query, variables})
  const address = to + '/graphql?' + new URLSearchParams({query, variables: JSON.stringify(variables)})
  const element = (tag, set) => new Promise(done => {
    const e = document.createElement(tag)
    document.body.append(Object.assign(e, set, {onload: () => done('loaded'), onerror: () => done('failed')}))
  })
  const form = (method, enctype, fields) => new Promise(done => {
    const name = 'target' + document.forms.length
    const frame = Object.assign(document.createElement('iframe'), {name})
    const f = Object.assign(document.createElement('form'), {method, enctype, target: name, action: address})
    for (const [key, value] of Object.entries(fields))
      f.append(Object.assign(document.createElement('input'), {name: key, value}))
    document.body.append(frame, f)
    frame.onload = () => done('sent')
    f.submit()
  })
  const post = (url, type, body, more) => fetch(url, {
    method: 'POST', body, headers: type ? {'Content-Type': type} : {}, credentials: 'include', ...more,
  }).then(r => r.type == 'opaque' ? 'sent' : String(r.status), () => 'failed')
  const socket = () => new Promise(done => {
    const s = new WebSocket(to.replace('http', 'ws') + '/graphql', 'graphql-ws')
    s.onerror = () => done('failed')
    s.onopen = () => { s.send('{"type": "connection_init"}')
                       s.send(`{"type": "start", "id": "1", "payload": ${asked}}`); setTimeout(done, 1000, 'open') }
  })
  const report = to + '/report_asset_materialization/prompts'
  return {
    image: await element('img', {src: address}),
    script: await element('script', {src: address}),
    frame: await element('iframe', {src: to + '/runs'}),
    'form by GET': await form('GET', '', {query, variables: JSON.stringify(variables)}),
    'form by POST': await form('POST', 'application/x-www-form-urlencoded', {query}),
    'form of text': await form('POST', 'text/plain', {[asked.slice(0, -1) + ', "x": "']: '"}'}),
    'text without leave': await post(to + '/graphql', 'text/plain', asked, {mode: 'no-cors'}),
    'text called JSON': await post(to + '/graphql', 'text/plain; application/json', asked, {mode: 'no-cors'}),
    'query in the address': await post(address, '', '', {mode: 'no-cors'}),
    'GET without leave': await fetch(address, {mode: 'no-cors'}).then(() => 'sent', () => 'failed'),
    'beacon': String(navigator.sendBeacon(to + '/graphql', asked)),
    'JSON': await post(to + '/graphql', 'application/json', asked, {}),
    'GraphQL': await post(to + '/graphql', 'application/graphql', query, {}),
    'report': await post(report, '', undefined, {mode: 'no-cors'}),
    'report as JSON': await post(report, 'application/json', '{}', {}),
    socket: await socket(),
  }
}"""


class Attacker:
    """``port`` serves an empty page at every address; ``received`` has what came: request line and headers."""

    def __init__(self) -> None:
        self.received: list[str] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                received.append(f"{self.requestline}\n{self.headers}")
                body = b"<!doctype html><title>Cats</title><body>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]


@contextmanager
def attacking() -> Iterator[Attacker]:
    attacker = Attacker()
    Thread(target=attacker.server.serve_forever, daemon=True).start()
    try:
        yield attacker
    finally:
        attacker.server.shutdown()
        attacker.server.server_close()
