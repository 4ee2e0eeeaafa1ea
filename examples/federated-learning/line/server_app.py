"""The coordinator: federated averaging over both nodes, then one line with the result."""

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    # A round starts when both nodes are there and takes both; there is no evaluation besides the loss they report.
    strategy = FedAvg(min_train_nodes=2, min_available_nodes=2, fraction_evaluate=0.0)
    rounds = int(context.run_config["rounds"])
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord([np.zeros(2)]), num_rounds=rounds)
    slope, intercept = result.arrays.to_numpy_ndarrays()[0]
    loss = result.train_metrics_clientapp[rounds]["loss"]
    print(f"line: rounds={rounds} slope={slope:.3f} intercept={intercept:.3f} loss={loss:.2e}", flush=True)
