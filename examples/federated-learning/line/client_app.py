"""A node: half of the points, and a few steps of gradient descent on them per round."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

STEPS = 200
RATE = 0.3

app = ClientApp()


def points(half: int) -> tuple[np.ndarray, np.ndarray]:
    """Node 0 has the points left of zero, node 1 those to the right."""
    x = np.linspace(-1.0, 0.0, 50) if half == 0 else np.linspace(0.0, 1.0, 50)
    return x, 3.0 * x + 1.0


@app.train()
def train(message: Message, context: Context) -> Message:
    x, y = points(int(context.node_config["half"]))
    slope, intercept = message.content["arrays"].to_numpy_ndarrays()[0]
    for _ in range(STEPS):
        error = slope * x + intercept - y
        slope -= RATE * np.mean(error * x)
        intercept -= RATE * np.mean(error)
    loss = float(np.mean((slope * x + intercept - y) ** 2))
    content = RecordDict({
        "arrays": ArrayRecord([np.array([slope, intercept])]),
        "metrics": MetricRecord({"num-examples": len(x), "loss": loss}),
    })
    return Message(content, reply_to=message)
