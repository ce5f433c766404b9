"""The lecture on handwritten digits, step by step. Each step is a lesson, and each lesson uses the ones before it.

  perceptron        a decision; gates and circuits of perceptrons; the sigmoid neuron
  universality      a network with one hidden layer approximates any function; a wider layer is more accurate
  backpropagation   gradients by the chain rule and mini-batch gradient descent, in NumPy
  cost              cross-entropy compared with squared error
  descent           plain gradient descent, momentum, Nesterov, AdaGrad, RMSprop, Adam
  regularisation    overfitting; L1, L2 and dropout against it
  activations       sigmoid, tanh, ReLU; vanishing and exploding gradients
  convolutions      convolution, dilated and transposed convolution, pooling

  lesson, trial     the stage that runs one lesson, and what a lesson compares
  nets, train       the lecture's four networks and ours, from their entries in params.yaml
  seeds, seed_table test accuracy with other seeds
  page              the stage that writes docs/digits.md

`training.data.sources.mnist` provides MNIST.
"""
