"""An engine that runs in a thread beside others, because its work is done elsewhere."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from cai_assets.engines.protocol import NOT_YET, Engine, Request, Result, wake
from cai_assets.errors import CaiError

FORGOTTEN = "the engine returned no result for this row"


class _Stopped(CaiError):
    """Nobody waits for the results any more."""


class Beside:
    """``found``: is called, in the thread, with each result, and with the exception that ends the engine."""

    def __init__(self, engine: Engine, found: Callable[[Result | Exception], None]) -> None:
        self.engine, self._found = engine, found
        self._sent: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="beside", daemon=True)
        self._thread.start()

    def send(self, requests: Iterable[Request]) -> None:
        """Have them answered as soon as the engine has room for them."""
        for request in requests:
            self._sent.put(request)
        wake(self.engine)

    def stop(self) -> None:
        """Leave what is not answered; return when nothing of it is under way."""
        self._stopped = True
        self._sent.put(None)
        wake(self.engine, _Stopped())
        self._thread.join()

    def _work(self) -> None:
        try:
            while (request := self._sent.get()) is not None:
                flight = {request.row_key: request}
                for result in self.engine.run(self._requests(flight)):
                    flight.pop(result.row_key, None)
                    self._found(result)
                for key in flight:
                    self._found(Result(row_key=key, error=FORGOTTEN))
        except _Stopped:
            pass
        except Exception as e:
            self._found(e)

    def _requests(self, flight: dict[str, Request]) -> Iterator[Request]:
        """Those of the run: the one that began it, and all that are sent before it ends."""
        ready = [*flight.values()]
        while flight:
            if self._stopped:
                raise _Stopped
            yield ready.pop() if ready else NOT_YET
            with suppress(queue.Empty):
                request = self._sent.get_nowait()
                if request is not None:
                    flight[request.row_key] = request
                    ready.append(request)
