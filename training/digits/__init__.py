"""The lecture's digits, step by step; each step is a lesson whose run can be repeated, and builds on those before.

  perceptron        a decision; gates and circuits of decisions; the sigmoid neuron
  universality      one hidden layer approximates a function, the better the wider it is
  backpropagation   gradients by the chain rule and mini-batch descent, in NumPy
  cost              why cross-entropy and not squared error
  descent           plain, momentum, Nesterov, AdaGrad, RMSprop, Adam
  regularisation    over-fitting, and L1, L2 and dropout against it
  activations       sigmoid, tanh, ReLU: gradients that vanish and explode
  convolutions      kernels, dilated and transposed; pooling

  nets, train       the lecture's four nets and ours, from their entries in params.yaml
  seeds             how far the nets' accuracies move from seed to seed
  lesson, page      a lesson as a DVC stage and a family of MLflow runs; docs/digits.md

MNIST itself comes from training.sources.mnist.
"""
