"""Runs real netx on spikes; started by `verify.run_netx` in an interpreter that has lava-dl and may lack all else.

Usage: ``_netx_worker.py FILE.net SPIKES.npy OUT.npy C,H,W``; exit status 3 says that lava-dl cannot be imported.
"""

import sys

import numpy as np


def main(net_path: str, spikes_path: str, out_path: str, shape_text: str) -> None:
    try:
        from lava.lib.dl import netx
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc import io
    except ImportError as error:
        print(error, file=sys.stderr)
        raise SystemExit(3) from None
    spikes = np.load(spikes_path)  # [T, N, ...]
    shape = tuple(int(n) for n in shape_text.split(","))
    steps = spikes.shape[0]
    outputs = []
    for sample in range(spikes.shape[1]):
        x = spikes[:, sample]
        # netx orders images W, H, C with time last.
        x = x.transpose(3, 2, 1, 0) if len(shape) == 3 else x.T
        net = netx.hdf5.Network(net_config=net_path, input_shape=shape[::-1] if len(shape) == 3 else None)
        if net.inp.shape != x.shape[:-1]:
            # A dense layer directly behind the input takes C, H, W in row-major order.
            x = spikes[:, sample].reshape(steps, -1).T
        source = io.source.RingBuffer(data=x.astype(np.int32))
        sink = io.sink.RingBuffer(shape=net.out.shape, buffer=steps)
        source.s_out.connect(net.inp)
        net.out.connect(sink.a_in)
        config = Loihi2SimCfg(select_tag="fixed_pt")
        net.run(condition=RunSteps(num_steps=steps), run_cfg=config)
        y = sink.data.get()
        net.stop()
        y = y.transpose(3, 2, 1, 0).reshape(steps, -1) if y.ndim == 4 else y.T
        outputs.append(y != 0)
    np.save(out_path, np.stack(outputs, 1).astype(np.uint8))


if __name__ == "__main__":
    main(*sys.argv[1:])
